"""Vocabularies spelt as sentencepiece spells them -> spelt as ours are, with the same pieces for the same text.

    "▁the", "<0x0A>"   --over_bytes-->       strings of bytes in GPT-2's alphabet (unigram)
                       --over_characters-->  " the", "<0x0A>" (BPE, whose merges begin with characters)

sentencepiece writes a space as `▁`, so a text with that character would not come back. Here a space is a space, and
`▁` a character like others. Invariant: no two tokens that text can become stand for the same bytes, but for the byte
tokens of BPE over characters.
"""

from __future__ import annotations

from typing import Any

from groundup.tokens.draft import Draft, byte_score, put_out_of_reach
from groundup.tokens.patterns import split_steps
from groundup.tokens.tokenizer_file import BYTE_ALPHABET, BYTE_TOKEN


def over_characters(draft: Draft, symbol: str, steps: list[dict[str, Any]], split_at_spaces: bool) -> None:
    """Turn a vocabulary over characters with a symbol for the space into one where a space is a space."""
    draft.unit = "characters"
    if draft.ignore_merges:
        draft.ignore_merges = False
        draft.left_out.append("ignore_merges")
    draft.texts = [text if text in draft.control else _with_spaces(text, symbol) for text in draft.texts]
    draft.literal = {_with_spaces(text, symbol): index for text, index in draft.literal.items()}
    draft.merges = [[_with_spaces(part, symbol) for part in pair] for pair in draft.merges]
    _out_of_reach_when_twice(draft)
    draft.steps = _with_symbol_gone(steps, symbol) or _cut_at_spaces(draft, split_at_spaces)


def over_bytes(draft: Draft, symbol: str, steps: list[dict[str, Any]], split_at_spaces: bool) -> None:
    """Turn a unigram vocabulary over characters into one over bytes that cuts text into the same pieces."""
    draft.unit = "bytes"
    ordinary = [s for s, text in zip(draft.scores, draft.texts) if text not in draft.control and not _byte_of(text)]
    least, most = min(ordinary, default=0.0), max(ordinary, default=0.0)
    for index, text in enumerate(draft.texts):
        if text in draft.control:
            continue
        byte = _byte_of(text)
        if byte:
            draft.scores[index] = byte_score(byte[0], least)
        elif text in draft.literal:
            draft.scores[index] = max(most, 0.0)
        data = byte or _with_spaces(text, symbol).encode(errors="replace")
        draft.texts[index] = "".join(BYTE_ALPHABET[value] for value in data)
    draft.literal = {}
    _out_of_reach_when_twice(draft)
    draft.steps = _with_symbol_gone(steps, symbol) or _cut_at_spaces(draft, split_at_spaces)


def _byte_of(text: str) -> bytes:
    found = BYTE_TOKEN.fullmatch(text)
    return bytes.fromhex(found[1]) if found else b""


def _with_spaces(text: str, symbol: str) -> str:
    return text.replace(symbol, " ") if symbol else text


def _out_of_reach_when_twice(draft: Draft) -> None:
    """Of two tokens for one text the one with the better score stays, or the first; the other becomes reserved.

    So does one without text.
    """
    first: dict[str, int] = {}
    twice: list[int] = []
    for index, text in enumerate(draft.texts):
        other = first.setdefault(text, index)
        if other != index or not text:
            better = bool(draft.scores) and draft.scores[index] > draft.scores[other] and text not in draft.control
            twice.append(other if better else index)
            first[text] = index if better else other
    put_out_of_reach(draft, twice)
    draft.literal = {text: index for text, index in draft.literal.items() if draft.texts[index] == text}


def _with_symbol_gone(steps: list[dict[str, Any]], symbol: str) -> list[dict[str, Any]]:
    """Steps that look for the symbol look for a space; those that looked for a space never found one."""
    kept = []
    for step in steps:
        texts = (
            {key: str(value) for key, value in step.get("pattern", {}).items()} if step.get("type") == "Split" else {}
        )
        if any(symbol and symbol in text for text in texts.values()):
            kept.append({**step, "pattern": {key: _with_spaces(text, symbol) for key, text in texts.items()}})
        elif not symbol or not any(" " in text or "\\s" in text for text in texts.values()):
            kept.append(step)
    return kept


def _cut_at_spaces(draft: Draft, split_at_spaces: bool) -> list[dict[str, Any]]:
    """Where no token crosses from a word into a space, cutting there changes nothing and is many times faster."""
    if split_at_spaces:
        return split_steps("metaspace")
    space = BYTE_ALPHABET[0x20] if draft.unit == "bytes" else " "
    ordinary = (text for text in draft.texts if text not in draft.control)
    crosses = any(space in text.lstrip(space) for text in ordinary)
    return [] if crosses else split_steps("spaces")
