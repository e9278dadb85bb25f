"""A tokenizer.json on the disk -> checked facts, or a ModelFileError.

The tokenizers library panics on some damaged files and accepts others (a duplicate id, an id of two thousand million,
a regular expression that never ends), so the file is judged here before the library sees it.

    bytes        every token is a string of bytes (GPT-2's alphabet); BPE or Unigram; words cut by judged expressions
    characters   every token is a string of characters, a space is a space; BPE; <0x00> to <0xFF> for what has no token
    pieces       words and parts of words of BERT (`wordpiece`), for encoders only: text does not come back

Invariant: a file that passes gives any text back as it was, unless its unit is pieces: no normalizer, a token for every
byte. Ids are dense, unique and below `VOCAB_LIMIT`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from groundup.errors import ModelFileError
from groundup.tokens.expressions import fault_of_steps, steps_of
from groundup.tokens.patterns import name_of
from groundup.tokens.wordpiece import UNKNOWN, continuing, fault_of_model, rendering

TOKENIZER_FILE = "tokenizer.json"
ENDOFTEXT = "<|endoftext|>"
TURN_END = "<|end|>"
ROLE_TOKENS: Mapping[str, str] = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
"""What begins a turn, by role: one token each, since headers are paid for in every turn that is trained on."""
CONTROL_TOKENS = (ENDOFTEXT, *ROLE_TOKENS.values(), TURN_END)
TOOL_TURN = "<|tool|>"
"""What begins what a tool answers; only in tokenizers of recipes that keep such turns."""
END_OF_TEXT_NAMES = ("<|end_of_text|>", "</s>", "<eos>", "<|eos|>", "<｜end▁of▁sentence｜>", "<EOS>", "[EOS]")
"""Names that well-known tokenizers give to what we call <|endoftext|>."""
PAD, CLS, SEP, MASK = "[PAD]", "[CLS]", "[SEP]", "[MASK]"
ENCODER_TOKENS = (PAD, CLS, SEP, MASK)
"""What encoders have besides: padding, the beginning of a row or pair, the end of a text, a hidden token."""
FILE_LIMIT_BYTES = 64_000_000
VOCAB_LIMIT = 1 << 20
BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")

Unit = Literal["bytes", "characters", "pieces"]
_VOCAB_TYPES: Mapping[str, type] = {"BPE": dict, "Unigram": list, "WordPiece": dict}
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
"""The last step of a pre-tokenizer over bytes: each byte as a character of the alphabet."""


def _byte_alphabet() -> dict[int, str]:
    """GPT-2's one printable character per byte (byte-level BPE stores its tokens in this alphabet)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


BYTE_ALPHABET: Mapping[int, str] = _byte_alphabet()
BYTE_OF: Mapping[str, int] = {character: byte for byte, character in BYTE_ALPHABET.items()}


@dataclass(frozen=True)
class TokenizerFile:
    """A checked tokenizer.json. `token_bytes[id]` is what a token stands for; for control tokens, their names."""

    text: str
    content: Mapping[str, Any]
    unit: Unit
    pattern: str
    """Name of the pre-tokenizer's pattern; "" when it has none of `patterns.PATTERNS`."""
    token_bytes: Sequence[bytes]
    control: Mapping[str, int]
    literal: Mapping[str, int]
    """Added tokens that are ordinary text, and are found in it before anything else."""

    continuing: frozenset[int] | None = None
    """Tokens that go on in a word, where the vocabulary says so (pieces)."""

    def plain_json(self) -> str:
        """The same tokenizer without its control tokens, so that no text, whatever it says, can become one."""
        model = dict(self.content["model"])
        if model["type"] != "Unigram":
            # [UNK] stays: a word that has no pieces becomes it, and nothing else does.
            hidden = self.control.keys() - {model.get("unk_token")}
            ordinary = {text: index for text, index in model["vocab"].items() if text not in hidden}
            model["vocab"] = ordinary | dict(self.literal)
        else:
            # A place in the list is an id, so a control token is put out of reach: NUL is not in the alphabet.
            model["vocab"] = [
                [f"\0{index}" if text in self.control else text, score]
                for index, (text, score) in enumerate(model["vocab"])
            ]
        literal = [entry for entry in self.content["added_tokens"] if entry["content"] in self.literal]
        plain = {**self.content, "model": model, "added_tokens": literal, "post_processor": None}
        return json.dumps(plain, ensure_ascii=False)


def read_tokenizer_file(folder: Path) -> TokenizerFile:
    """Read and judge `folder/tokenizer.json`. Raises ModelFileError with file, finding and remedy."""
    path = folder / TOKENIZER_FILE
    return judge(*read_json(path), path)


def judge(text: str, content: Mapping[str, Any], path: Path) -> TokenizerFile:
    """The checked facts of a tokenizer.json that was read from `path`. Raises ModelFileError."""
    model = content.get("model")
    kind = str(model.get("type")) if isinstance(model, dict) else ""
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), _VOCAB_TYPES.get(kind, ())):
        raise ModelFileError(f"{path}: not a BPE, Unigram or WordPiece tokenizer; Groundup reads these only")
    if kind == "WordPiece":
        return _judge_pieces(text, content, path)
    for key in ("unk_token", "dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise ModelFileError(
                f"{path}: model.{key} is set, so text would not come back as it was; take it in by tokenizer.path"
            )
    if content.get("normalizer") is not None:
        raise ModelFileError(
            f"{path}: a normalizer changes the text, so it would not round-trip; take it in by tokenizer.path"
        )
    unit: Unit = "characters" if model.get("byte_fallback") and kind == "BPE" else "bytes"
    pattern = _pattern_of(content.get("pre_tokenizer"), unit, path)
    control, literal = _added_tokens(content.get("added_tokens"), path)
    added = {**control, **literal}
    if kind == "BPE":
        texts = _dense(model["vocab"], added, path)
        _check_merges(model, control, unit, path)
    elif literal:
        raise ModelFileError(
            f"{path}: added tokens beside a unigram model are not special; take it in by tokenizer.path"
        )
    else:
        texts = _dense(_unigram_vocab(model["vocab"], path), added, path)
    found = [_bytes_of(token, added, unit, path) for token in texts]
    vocab = model["vocab"] if kind == "BPE" else {entry[0] for entry in model["vocab"]}
    for token in literal.keys() & vocab if unit == "bytes" else ():
        if not token.isascii():
            raise ModelFileError(f"{path}: added token {token[:40]!r} is also a string of bytes; use another tokenizer")
    _check_every_byte(texts, found, unit, path)
    return TokenizerFile(text, content, unit, pattern, found, control, literal)


def _judge_pieces(text: str, content: Mapping[str, Any], path: Path) -> TokenizerFile:
    """The facts of a WordPiece tokenizer. Raises ModelFileError."""
    fault = fault_of_model(content)
    if fault:
        raise ModelFileError(f"{path}: {fault}; Groundup reads WordPiece as BERT has it")
    if content.get("truncation") or content.get("padding"):
        # Someone's settings for batches, which would cut or fill every text here.
        content = {**content, "truncation": None, "padding": None}
        text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    control, literal = _added_tokens(content.get("added_tokens"), path, lossless=False)
    vocab: dict[str, int] = content["model"]["vocab"]
    for name in (UNKNOWN, *ENCODER_TOKENS):
        if name not in vocab and name not in control:
            raise ModelFileError(f"{path}: no token {name}, which BERT's tokenizers have; use another tokenizer")
        control.setdefault(name, vocab.get(name, -1))
        literal.pop(name, None)
    texts = _dense(vocab, {**control, **literal}, path)
    shown = [_utf8(each, path) if each in control else _utf8(rendering(each), path) for each in texts]
    inner = continuing(texts) - set(control.values())
    return TokenizerFile(text, content, "pieces", "", shown, control, literal, inner)


def read_json(path: Path) -> tuple[str, dict[str, Any]]:
    """A JSON object's text and content. Raises ModelFileError when it is missing, too large or no such thing."""
    try:
        size = path.stat().st_size
        if size > FILE_LIMIT_BYTES:
            raise ModelFileError(f"{path}: {size} bytes is too large for a tokenizer (limit {FILE_LIMIT_BYTES})")
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
    except FileNotFoundError:
        raise ModelFileError(
            f"{path.parent}: no {path.name} here; give the folder of a tokenizer or an exported model"
        ) from None
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0][:60]
        raise ModelFileError(f"{path}: not valid JSON ({reason}); make or copy the tokenizer again") from None
    if not isinstance(content, dict):
        raise ModelFileError(f"{path}: holds a {type(content).__name__}, not a tokenizer; make or copy it again")
    return text, content


def _pattern_of(pre_tokenizer: Any, unit: Unit, path: Path) -> str:
    """Name of the pattern of a pre-tokenizer, "" for one without; raises when a step of it is not allowed."""
    if unit == "characters":
        steps = [] if pre_tokenizer is None else steps_of(pre_tokenizer)
    else:
        steps = steps_of(pre_tokenizer)
        last = steps.pop() if steps else {}
        if last.get("type") != "ByteLevel" or last.get("add_prefix_space"):
            raise ModelFileError(f"{path}: unknown pre-tokenizer; known are expressions followed by ByteLevel")
        if last.get("use_regex", True):
            steps.append({"type": "ByteLevel"})
    if steps == [{"type": "ByteLevel"}]:
        return "gpt2"
    fault = fault_of_steps([step for step in steps if step != {"type": "ByteLevel"}])
    if fault:
        raise ModelFileError(f"{path}: unknown pre-tokenizer: {fault}; use another tokenizer")
    return name_of(steps)


def _added_tokens(added: Any, path: Path, *, lossless: bool = True) -> tuple[dict[str, int], dict[str, int]]:
    """(control tokens, literal ones) by text; ids are judged in `_dense`."""
    if not isinstance(added, list):
        raise ModelFileError(f"{path}: added_tokens is not a list; make or copy the tokenizer again")
    control: dict[str, int] = {}
    literal: dict[str, int] = {}
    for entry in added:
        if not isinstance(entry, dict) or not isinstance(entry.get("content"), str) or not entry["content"]:
            raise ModelFileError(f"{path}: an added token without content; make or copy the tokenizer again")
        text = entry["content"]
        if text in control or text in literal:
            raise ModelFileError(f"{path}: added token {text[:40]!r} appears twice; make or copy the tokenizer again")
        if entry.get("special", True):
            control[text] = entry.get("id")  # type: ignore[assignment]
        elif lossless and any(entry.get(flag) for flag in ("lstrip", "rstrip", "single_word", "normalized")):
            raise ModelFileError(
                f"{path}: added token {text[:40]!r} takes spaces with it; take it in by tokenizer.path"
            )
        else:
            literal[text] = entry.get("id")  # type: ignore[assignment]
    return control, literal


def _dense(vocab: Mapping[str, Any], added: Mapping[str, int], path: Path) -> list[str]:
    """Texts of tokens 0, 1, 2, ...; raises when an id is used twice or out of range (so none can be missing either)."""
    count = len(vocab.keys() | added.keys())
    if count > VOCAB_LIMIT:
        raise ModelFileError(f"{path}: {count} tokens is beyond the limit of {VOCAB_LIMIT}; use a smaller vocabulary")
    texts: list[str | None] = [None] * count
    for text, index in (*vocab.items(), *added.items()):
        if type(index) is not int or not 0 <= index < count:
            raise ModelFileError(
                f"{path}: token {text[:40]!r} has id {str(index)[:20]}; ids must be 0 to {count - 1} without gaps"
            )
        if texts[index] not in (None, text):
            raise ModelFileError(
                f"{path}: id {index} is used by {str(texts[index])[:40]!r} and {text[:40]!r}; ids must be unique"
            )
        texts[index] = text
    return [text for text in texts if text is not None]


def _unigram_vocab(vocab: Sequence[Any], path: Path) -> dict[str, int]:
    """Ids by text of a list of [text, score]."""
    found: dict[str, int] = {}
    for index, entry in enumerate(vocab):
        good = isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)
        if (
            not good
            or not entry[0]
            or type(entry[1]) not in (int, float)
            or not math.isfinite(entry[1])
            or entry[0] in found
        ):
            raise ModelFileError(
                f"{path}: entry {index} of the vocab is no new text with a score ({str(entry)[:40]}); copy it anew"
            )
        found[entry[0]] = index
    return found


def _check_merges(model: Mapping[str, Any], control: Mapping[str, int], unit: Unit, path: Path) -> None:
    """Each merge joins two known tokens to a known one (the library panics on others), which is ordinary text."""
    vocab, merges = model["vocab"], model.get("merges")
    if not isinstance(merges, list):
        raise ModelFileError(f"{path}: model.merges is not a list; make or copy the tokenizer again")
    if unit == "characters" and model.get("ignore_merges"):
        raise ModelFileError(f"{path}: ignore_merges with byte_fallback takes '<0x41>' for a byte; use another one")
    for number, merge in enumerate(merges):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        strings = isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)
        names = (*pair, "".join(pair)) if strings else ("",)
        byte = unit == "characters" and any(map(BYTE_TOKEN.fullmatch, names))
        if byte or any(name not in vocab or name in control for name in names):
            raise ModelFileError(
                f"{path}: merge {number} ({str(merge)[:40]}) names unknown tokens; make or copy the tokenizer again"
            )


def _bytes_of(text: str, added: Mapping[str, int], unit: Unit, path: Path) -> bytes:
    """What a token stands for; an added one, for its text."""
    if text in added:
        return _utf8(text, path)
    if unit == "characters":
        byte = BYTE_TOKEN.fullmatch(text)
        return bytes.fromhex(byte[1]) if byte else _utf8(text, path)
    try:
        return bytes(BYTE_OF[character] for character in text)
    except KeyError as error:
        raise ModelFileError(
            f"{path}: token {text[:40]!r} holds {error.args[0]!r}, which is not byte-level; use byte-level BPE"
        ) from None


def _utf8(text: str, path: Path) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ModelFileError(f"{path}: token {text[:20]!r} is no Unicode text; make or copy it again") from None


def _check_every_byte(texts: Sequence[str], found: Sequence[bytes], unit: Unit, path: Path) -> None:
    """Every byte must have a token under the name that the library gives it, and that token must stand for it."""
    names = [f"<0x{byte:02X}>" if unit == "characters" else BYTE_ALPHABET[byte] for byte in range(256)]
    stands_for = dict(zip(texts, found))
    missing = sum(stands_for.get(name) != bytes([byte]) for byte, name in enumerate(names))
    if missing:
        raise ModelFileError(
            f"{path}: {missing} of 256 bytes have no token, so some text cannot be encoded; use another tokenizer"
        )
