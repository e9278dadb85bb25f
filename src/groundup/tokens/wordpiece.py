"""WordPiece, the tokenizer of BERT: a tokenizer.json or vocab.txt, judged, and its tokens as text.

    text -> clean, Chinese characters apart, lower case, accents off (as the file says) -> words and marks -> pieces
            "Zürich北京"  ->  "zurich 北 京"  ->  zu ##rich 北 京            a word with an unknown part: [UNK]

Such a tokenizer changes text and loses its spaces, so the text does not come back; encoders can live with that, as they
write no text. Bytes of tokens are therefore a rendering: a space before each word. Invariant: only steps without
regular expressions are allowed, ids are dense and unique, and [UNK], [PAD], [CLS], [SEP] and [MASK] are there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from groundup.errors import ModelFileError
from groundup.tokens.word_starts import without_spaces

UNKNOWN, PREFIX = "[UNK]", "##"
VOCAB_FILE: Literal["vocab.txt"] = "vocab.txt"
FILE_LIMIT_BYTES = 64_000_000
LONGEST_WORD_CHARACTERS = 100
"""BERT's: a longer word is [UNK]."""
_NORMALIZERS = ("BertNormalizer", "Lowercase", "StripAccents", "NFD", "NFKD", "NFC", "NFKC")
_PRE_TOKENIZERS = ("BertPreTokenizer", "Whitespace", "WhitespaceSplit", "Punctuation", "Digits")


def fault_of_model(content: Mapping[str, Any]) -> str | None:
    """What is wrong with the parts of a tokenizer.json with a WordPiece model, or None."""
    model = content["model"]
    vocab = model.get("vocab")
    if not isinstance(vocab, dict) or not all(isinstance(text, str) and text for text in vocab):
        return "model.vocab is no table of texts and ids"
    if model.get("unk_token") != UNKNOWN or UNKNOWN not in vocab:
        return f"its token for unknown words is not {UNKNOWN}"
    if model.get("continuing_subword_prefix") != PREFIX:
        return f"what goes on in a word is not marked by {PREFIX}"
    longest = model.get("max_input_chars_per_word", LONGEST_WORD_CHARACTERS)
    if type(longest) is not int or not 1 <= longest <= 10_000:
        return "model.max_input_chars_per_word is no usable length"
    for key, single, known in (
        ("normalizer", "normalizers", _NORMALIZERS),
        ("pre_tokenizer", "pretokenizers", _PRE_TOKENIZERS),
    ):
        for step in _steps(content.get(key), single):
            if not isinstance(step, dict) or step.get("type") not in known:
                return f"{key} {str(step)[:40]} is not known"
    if not _steps(content.get("pre_tokenizer"), "pretokenizers"):
        return "no pre_tokenizer cuts text into words"
    return None


def _steps(value: Any, inner: str) -> list[Any]:
    if isinstance(value, dict) and value.get("type") == "Sequence":
        steps = value.get(inner)
        return steps if isinstance(steps, list) else [value]
    return [] if value is None else [value]


def rendering(text: str) -> str:
    """What a token is shown as: a piece as it stands, a word behind a space, but for scripts that have none."""
    if text.startswith(PREFIX) and text != PREFIX:
        return text.removeprefix(PREFIX)
    return text if without_spaces(text[0]) else f" {text}"


def read_vocab(path: Path) -> tuple[str, dict[str, Any]]:
    """A tokenizer.json, text and content, of a vocab.txt and what tokenizer_config.json beside it says of case.

    Raises ModelFileError.
    """
    if path.stat().st_size > FILE_LIMIT_BYTES:
        raise ModelFileError(f"{path}: {path.stat().st_size} bytes is too large for a vocabulary; copy it again")
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{path}: not UTF-8 at byte {error.start}; copy the vocabulary again") from None
    vocab: dict[str, int] = {}
    for index, text in enumerate(lines):
        if not text or text in vocab:
            what = f"{text[:40]!r} twice" if text else "an empty line"
            raise ModelFileError(f"{path}: line {index + 1} is {what}, so ids would not be those of lines; mend it")
        vocab[text] = index
    content = _content(vocab, _settings(path.with_name("tokenizer_config.json")))
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n", content


def _settings(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: not valid JSON ({str(error)[:60]}); copy the tokenizer again") from None
    return found if isinstance(found, dict) else {}


def _content(vocab: Mapping[str, int], settings: Mapping[str, Any]) -> dict[str, Any]:
    """As transformers makes it of a vocab.txt."""
    special = [text for text in ("[PAD]", UNKNOWN, "[CLS]", "[SEP]", "[MASK]") if text in vocab]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added_token(text, vocab[text]) for text in special],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": settings.get("tokenize_chinese_chars", True) is not False,
            "strip_accents": settings.get("strip_accents") if type(settings.get("strip_accents")) is bool else None,
            "lowercase": settings.get("do_lower_case", True) is not False,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": framing(vocab),
        "decoder": {"type": "WordPiece", "prefix": PREFIX, "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": UNKNOWN,
            "continuing_subword_prefix": PREFIX,
            "max_input_chars_per_word": LONGEST_WORD_CHARACTERS,
            "vocab": dict(vocab),
        },
    }


def added_token(text: str, index: int) -> dict[str, Any]:
    """An entry of added_tokens of a control token."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": index, "content": text, **flags, "special": True}


def framing(vocab: Mapping[str, int]) -> dict[str, Any] | None:
    """The post-processor that puts [CLS] and [SEP] around texts; None without them."""
    if "[CLS]" not in vocab or "[SEP]" not in vocab:
        return None

    def piece(kind: str, name: str, part: int) -> dict[str, Any]:
        return {kind: {"id": name, "type_id": part}}

    single = [piece("SpecialToken", "[CLS]", 0), piece("Sequence", "A", 0), piece("SpecialToken", "[SEP]", 0)]
    pair = [*single, piece("Sequence", "B", 1), piece("SpecialToken", "[SEP]", 1)]
    special = {name: {"id": name, "ids": [vocab[name]], "tokens": [name]} for name in ("[CLS]", "[SEP]")}
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}


def continuing(texts: Sequence[str]) -> frozenset[int]:
    """Ids of the pieces that go on in a word."""
    return frozenset(index for index, text in enumerate(texts) if text.startswith(PREFIX) and text != PREFIX)
