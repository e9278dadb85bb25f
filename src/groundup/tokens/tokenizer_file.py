"""What a usable tokenizer.json is: untrusted bytes -> checked content, or one clear ModelFileError.

The tokenizers library panics on some damaged files and accepts others (a duplicate id, an id of two thousand million,
a regular expression that never ends), so the file is judged here before the library sees it.

Invariant: a file that passes is byte-level BPE with a known pre-tokenizer, no normalizer, every byte in its alphabet,
and ids that are dense, unique and below `VOCAB_LIMIT`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.errors import ModelFileError
from groundup.stage import write_text
from groundup.tokens.template import CHAT_TEMPLATE

TOKENIZER_FILE = "tokenizer.json"
ENDOFTEXT = "<|endoftext|>"
TURN_END = "<|end|>"
ROLE_TOKENS: Mapping[str, str] = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
"""What begins a turn, by role: one token each, since headers are paid for in every turn that is trained on."""
CONTROL_TOKENS = (ENDOFTEXT, *ROLE_TOKENS.values(), TURN_END)
FILE_LIMIT_BYTES = 64_000_000
VOCAB_LIMIT = 1 << 20

PATTERNS: Mapping[str, str] = {
    "llama3": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
}
"""Pre-tokenizer expressions by name, character for character those of Llama 3 and GPT-2."""


def _byte_alphabet() -> dict[int, str]:
    """GPT-2's one printable character per byte (byte-level BPE stores its tokens in this alphabet)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


BYTE_ALPHABET: Mapping[int, str] = _byte_alphabet()
_BYTE_OF = {character: byte for byte, character in BYTE_ALPHABET.items()}


@dataclass(frozen=True)
class TokenizerFile:
    """A checked tokenizer.json. `token_bytes[id]` is what a token stands for; for control tokens, their names."""

    text: str
    content: Mapping[str, Any]
    pattern: str
    token_bytes: Sequence[bytes]
    control: Mapping[str, int]

    def plain_json(self) -> str:
        """The same tokenizer without its control tokens, so that no text, whatever it says, can become one."""
        model = dict(self.content["model"])
        model["vocab"] = {text: index for text, index in model["vocab"].items() if text not in self.control}
        return json.dumps(
            {**self.content, "model": model, "added_tokens": [], "post_processor": None}, ensure_ascii=False
        )


def read_tokenizer_file(folder: Path) -> TokenizerFile:
    """Read and judge `folder/tokenizer.json`. Raises ModelFileError with file, finding and remedy."""
    path = folder / TOKENIZER_FILE
    text, content = _read_json(path)
    model = content.get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE" or not isinstance(model.get("vocab"), dict):
        raise ModelFileError(f"{path}: not a BPE tokenizer; Groundup reads byte-level BPE only")
    for key in ("unk_token", "dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise ModelFileError(
                f"{path}: model.{key} is set, which byte-level BPE has no use for; use another tokenizer"
            )
    if content.get("normalizer") is not None:
        raise ModelFileError(f"{path}: a normalizer changes the text, so it would not round-trip; use one without")
    pattern = _pattern_of(content.get("pre_tokenizer"))
    if pattern is None:
        raise ModelFileError(f"{path}: unknown pre-tokenizer; known are {', '.join(PATTERNS)} with ByteLevel")
    control = _control_tokens(content.get("added_tokens"), path)
    texts = _dense(model["vocab"], control, path)
    _check_merges(model, path)
    return TokenizerFile(text, content, pattern, _bytes_of_tokens(texts, control, path), control)


def _read_json(path: Path) -> tuple[str, dict[str, Any]]:
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


def write_tokenizer_files(folder: Path, text: str, control: Mapping[str, int]) -> None:
    """Write tokenizer.json (`text`) and what transformers reads beside it; each file atomically."""
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": ENDOFTEXT,
        "eos_token": TURN_END,
        "pad_token": ENDOFTEXT,
        "additional_special_tokens": list(ROLE_TOKENS.values()),
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "added_tokens_decoder": {str(index): {"content": name, **flags} for name, index in control.items()},
        "chat_template": CHAT_TEMPLATE,
    }
    write_text(folder / "chat_template.jinja", CHAT_TEMPLATE)
    write_text(folder / "tokenizer_config.json", json.dumps(settings, indent=1, ensure_ascii=False) + "\n")
    write_text(folder / TOKENIZER_FILE, text)


def _pattern_of(pre_tokenizer: Any) -> str | None:
    """Name of the pattern of a pre-tokenizer, None when it is not one of `PATTERNS` followed by plain ByteLevel."""
    if not isinstance(pre_tokenizer, dict):
        return None
    if pre_tokenizer.get("type") == "ByteLevel":
        return "gpt2" if pre_tokenizer.get("use_regex", True) and not pre_tokenizer.get("add_prefix_space") else None
    steps = pre_tokenizer.get("pretokenizers")
    if pre_tokenizer.get("type") != "Sequence" or not isinstance(steps, list) or len(steps) != 2:
        return None
    split, byte_level = steps
    if not isinstance(split, dict) or not isinstance(byte_level, dict) or not isinstance(split.get("pattern"), dict):
        return None
    splits = split.get("type") == "Split" and split.get("behavior") == "Isolated" and not split.get("invert")
    plain = byte_level.get("type") == "ByteLevel" and byte_level.get("use_regex") is False
    if not splits or not plain or byte_level.get("add_prefix_space"):
        return None
    return next((name for name, text in PATTERNS.items() if split["pattern"].get("Regex") == text), None)


def _control_tokens(added: Any, path: Path) -> dict[str, int]:
    if not isinstance(added, list):
        raise ModelFileError(f"{path}: added_tokens is not a list; make or copy the tokenizer again")
    control: dict[str, int] = {}
    for entry in added:
        if not isinstance(entry, dict) or not isinstance(entry.get("content"), str) or not entry["content"]:
            raise ModelFileError(f"{path}: an added token without content; make or copy the tokenizer again")
        if entry["content"] in control:
            raise ModelFileError(
                f"{path}: added token {entry['content'][:40]!r} appears twice; make or copy the tokenizer again"
            )
        control[entry["content"]] = entry.get("id")  # type: ignore[assignment]  # judged in _dense
    return control


def _dense(vocab: Mapping[str, Any], control: Mapping[str, int], path: Path) -> list[str]:
    """Texts of tokens 0, 1, 2, ...; raises when an id is used twice or out of range (so none can be missing either)."""
    count = len(vocab.keys() | control.keys())
    if count > VOCAB_LIMIT:
        raise ModelFileError(f"{path}: {count} tokens is beyond the limit of {VOCAB_LIMIT}; use a smaller vocabulary")
    texts: list[str | None] = [None] * count
    for text, index in (*vocab.items(), *control.items()):
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


def _check_merges(model: Mapping[str, Any], path: Path) -> None:
    """Each merge joins two known tokens to a known one (the library panics on others)."""
    vocab, merges = model["vocab"], model.get("merges")
    if not isinstance(merges, list):
        raise ModelFileError(f"{path}: model.merges is not a list; make or copy the tokenizer again")
    for number, merge in enumerate(merges):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        known = (
            isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) and part in vocab for part in pair)
        )
        if not known or pair[0] + pair[1] not in vocab:
            raise ModelFileError(
                f"{path}: merge {number} ({str(merge)[:40]}) names unknown tokens; make or copy the tokenizer again"
            )


def _bytes_of_tokens(texts: Sequence[str], control: Mapping[str, int], path: Path) -> list[bytes]:
    found: list[bytes] = []
    for text in texts:
        if text in control:
            found.append(text.encode())
            continue
        try:
            found.append(bytes(_BYTE_OF[character] for character in text))
        except KeyError as error:
            raise ModelFileError(
                f"{path}: token {text[:40]!r} holds {error.args[0]!r}, which is not byte-level; use byte-level BPE"
            ) from None
    missing = {bytes([byte]) for byte in range(256)} - set(found)
    if missing:
        raise ModelFileError(
            f"{path}: {len(missing)} of 256 bytes have no token, so some text cannot be encoded; use another tokenizer"
        )
    return found
