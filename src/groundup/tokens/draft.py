"""A vocabulary from elsewhere -> a tokenizer.json of ours: every byte spelt, our control tokens in it, the same ids.

What the readers of foreign formats (`foreign_*.py`) give is a Draft; `finish` does what is the same for all of them:

    ids that are missing                 -> spare control tokens (a few; more is a fault)
    bytes without a token                -> new tokens at the end
    end of text, end of turn, roles      -> tokens of these names; else those that mean the same get our name;
                                            else spare ones (`<|reserved...|>`); else new tokens at the end

Invariant: what is made here passes `tokenizer_file.judge`, so text comes back as it was and no text becomes a control
token, whatever the foreign file says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from groundup.errors import ModelFileError
from groundup.tokens.tokenizer_file import (
    BYTE_ALPHABET,
    BYTE_LEVEL,
    BYTE_TOKEN,
    CONTROL_TOKENS,
    END_OF_TEXT_NAMES,
    ENDOFTEXT,
    TURN_END,
    VOCAB_LIMIT,
    Unit,
)
from groundup.tokens.wordpiece import framing

GAP_LIMIT = 4096
"""So many ids may be missing; a file with more is damaged, or wants a table for tokens that are not there."""
TOKEN_LIMIT_CHARACTERS = 1024
UNKNOWN_PENALTY = 10.0
"""A character without a piece costs this much more than the rarest piece, as in sentencepiece."""
SAME_MEANING: Mapping[str, tuple[str, ...]] = {
    ENDOFTEXT: END_OF_TEXT_NAMES,
    TURN_END: ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|eot|>", "<|return|>"),
}
"""Names that well-known tokenizers give to what we call end of text and end of turn."""
_SPARE = re.compile(r"[<\[]\|?(?:reserved|unused)[\w ]*\|?[>\]]")


@dataclass
class Draft:
    """A foreign vocabulary: `texts[id]` in the alphabet of `unit`, ordinary text but for `control` and `literal`."""

    model: Literal["BPE", "Unigram"]
    unit: Unit
    texts: list[str]
    control: dict[str, int]
    literal: dict[str, int] = field(default_factory=dict)
    """Added tokens that are ordinary text, found in it before anything else."""
    merges: list[list[str]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    """Log probabilities by id, of a unigram model."""
    steps: list[dict[str, Any]] = field(default_factory=list)
    """What cuts text into words, without the step to bytes."""
    ignore_merges: bool = False
    left_out: list[str] = field(default_factory=list)
    """What the foreign tokenizer does to text and ours does not."""


def placed(entries: Iterable[tuple[str, Any]], path: Path) -> tuple[list[str], dict[str, int]]:
    """(texts by id, those put into gaps) of a foreign vocabulary. Raises ModelFileError on ids that cannot be."""
    by_id: dict[int, str] = {}
    by_text: dict[str, int] = {}
    for text, index in entries:
        if type(index) is not int or not 0 <= index < VOCAB_LIMIT:
            raise ModelFileError(
                f"{path}: token {text[:40]!r} has id {str(index)[:20]}; ids must be 0 to {VOCAB_LIMIT - 1}"
            )
        if by_id.setdefault(index, text) != text:
            raise ModelFileError(
                f"{path}: id {index} is used by {by_id[index][:40]!r} and {text[:40]!r}; ids must be unique"
            )
        if by_text.setdefault(text, index) != index:
            raise ModelFileError(
                f"{path}: token {text[:40]!r} has ids {by_text[text]} and {index}; copy the tokenizer again"
            )
    count = max(by_id, default=-1) + 1
    missing = [index for index in range(count) if index not in by_id]
    if not by_id or len(missing) > GAP_LIMIT:
        raise ModelFileError(
            f"{path}: {len(by_id)} tokens with ids up to {count - 1}; ids must be dense, copy the tokenizer again"
        )
    gaps = {_unused(index, by_text): index for index in missing}
    by_id |= {index: text for text, index in gaps.items()}
    return [by_id[index] for index in range(count)], gaps


def put_out_of_reach(draft: Draft, indices: Iterable[int]) -> None:
    """Make tokens that no text may become reserved control tokens, under names that are not in use."""
    taken = dict.fromkeys(draft.texts, 0)
    for index in indices:
        draft.texts[index] = _unused(index, taken)
        draft.control[draft.texts[index]] = index


def _unused(index: int, taken: Mapping[str, int]) -> str:
    name = f"<|unused_{index}|>"
    while name in taken:
        name = name.replace("_", "__", 1)
    return name


def finish(draft: Draft, control: Sequence[str] = CONTROL_TOKENS) -> tuple[str, dict[str, str]]:
    """(text of tokenizer.json, our control tokens -> what they were called; "" for new ones)."""
    _spell_every_byte(draft)
    names = {name: _find_place(draft, name) for name in control}
    _drop_merges_of_control(draft)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = sorted((i, text, text in draft.control) for text, i in (*draft.control.items(), *draft.literal.items()))
    to_bytes = draft.unit == "bytes"
    steps = [*draft.steps, BYTE_LEVEL] if to_bytes else draft.steps
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": text, **flags, "special": special} for i, text, special in added],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps} if steps else None,
        "post_processor": framing(draft.control),
        "decoder": BYTE_LEVEL
        if to_bytes
        else {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": _model(draft),
    }
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n", names


def _model(draft: Draft) -> dict[str, Any]:
    if draft.model == "Unigram":
        vocab = [[text, score] for text, score in zip(draft.texts, draft.scores)]
        return {"type": "Unigram", "unk_id": None, "vocab": vocab, "byte_fallback": False}
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": draft.unit == "characters",
        "ignore_merges": draft.ignore_merges,
        "vocab": {text: index for index, text in enumerate(draft.texts)},
        "merges": draft.merges,
    }


def _spell_every_byte(draft: Draft) -> None:
    """Append tokens for bytes that have none; a unigram's cost what an unknown character costs in sentencepiece."""
    known = set(draft.texts) - draft.control.keys() - draft.literal.keys()
    least = min((score for score, text in zip(draft.scores, draft.texts) if text in known), default=0.0)
    for byte in range(256):
        name = f"<0x{byte:02X}>" if draft.unit == "characters" else BYTE_ALPHABET[byte]
        if name not in known:
            draft.texts.append(name)
            draft.scores += [byte_score(byte, least)] if draft.model == "Unigram" else []


def byte_score(byte: int, least_score: float) -> float:
    """Log probability of a byte that stands for itself: a character pays once, with its first byte."""
    return 0.0 if 0x80 <= byte < 0xC0 else least_score - UNKNOWN_PENALTY


def _find_place(draft: Draft, name: str) -> str:
    """Give one of our control tokens an id; returns what the token there was called, "" for a new one."""
    if name in draft.texts:
        draft.control[name] = draft.texts.index(name)
        draft.literal.pop(name, None)
        return name
    spare = (text for text in draft.control if _SPARE.fullmatch(text))
    before = next((text for text in SAME_MEANING.get(name, ()) if text in draft.control), next(spare, None))
    if before is None:
        draft.control[name] = len(draft.texts)
        draft.texts.append(name)
        draft.scores += [0.0] if draft.model == "Unigram" else []
        return ""
    draft.control[name] = draft.control.pop(before)
    draft.texts[draft.control[name]] = name
    return before


def _drop_merges_of_control(draft: Draft) -> None:
    """Merges of a control token, or of a byte that stands for itself, are of no use: no text may become one."""
    of_bytes = (text for text in draft.texts if draft.unit == "characters" and BYTE_TOKEN.fullmatch(text))
    useless = {*draft.control, *of_bytes}
    draft.merges = [pair for pair in draft.merges if useless.isdisjoint((*pair, "".join(pair)))]
