"""A Hugging Face tokenizer.json, or vocab.json with merges.txt -> Draft.

Taken over: vocabulary, merges or scores, ids, added tokens, what cuts text into words. Left out, and said: whatever
changes text before that (normalizers, a space put in front), since text is to come back as it was.

    ByteLevel anywhere             BPE or Unigram over bytes, as it is
    no ByteLevel, Unigram          pieces become strings of bytes; segmentation stays that of sentencepiece
    no ByteLevel, BPE              over characters, with byte tokens for what has none; `▁` becomes a space

Invariant: nothing in the file is run; what is not known is refused or left out by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from groundup.errors import ModelFileError
from groundup.tokens.draft import Draft, placed
from groundup.tokens.expressions import fault_of_steps, steps_of
from groundup.tokens.patterns import split_steps
from groundup.tokens.respelling import over_bytes, over_characters
from groundup.tokens.tokenizer_file import BYTE_OF, FILE_LIMIT_BYTES, read_json

SCORE_LIMIT = 1e9
_LOSSLESS_STEPS = ("Split", "Digits", "Punctuation", "UnicodeScripts")


def read_tokenizer_json(path: Path) -> Draft:
    """Read a tokenizer.json. Raises ModelFileError with file, finding and remedy."""
    _, content = read_json(path)
    model = content.get("model")
    kind = model.get("type") if isinstance(model, dict) else None
    if not isinstance(model, dict) or kind not in ("BPE", "Unigram"):
        raise ModelFileError(
            f"{path}: a {str(kind)[:20]} tokenizer, whose text does not come back as it was; take BPE or Unigram"
        )
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise ModelFileError(f"{path}: model.{key} is set, so spaces would be lost; take byte-level BPE or Unigram")
    before, steps = steps_of(content.get("normalizer")), steps_of(content.get("pre_tokenizer"))
    to_bytes = any(step.get("type") == "ByteLevel" for step in (*before, *steps))
    draft = (_bpe if kind == "BPE" else _unigram)(model, content, path)
    draft.left_out += [_shown("normalizer", step) for step in before if step.get("type") != "ByteLevel"]
    symbol = _symbol_of_space(before, steps)
    if to_bytes:
        draft.unit, draft.literal = "bytes", draft.literal if kind == "BPE" else {}
        draft.steps = _byte_level_steps(steps, path, draft.left_out)
        _keep_to_alphabet(draft)
    elif kind == "BPE":
        over_characters(draft, symbol, _kept(steps, path, draft.left_out), _split_at_spaces(steps))
    else:
        over_bytes(draft, symbol, _kept(steps, path, draft.left_out), _split_at_spaces(steps))
    return draft


def read_vocab_and_merges(folder: Path) -> Draft:
    """Read the older pair of files of byte-level BPE: vocab.json and merges.txt, for GPT-2's pattern or Qwen2's."""
    path, merges_path = folder / "vocab.json", folder / "merges.txt"
    _, vocab = read_json(path)
    if not merges_path.is_file() or merges_path.stat().st_size > FILE_LIMIT_BYTES:
        raise ModelFileError(f"{merges_path}: missing or too large; vocab.json needs its merges.txt beside it")
    lines = merges_path.read_text(encoding="utf-8", errors="replace").split("\n")
    merges = [line.rstrip("\r").split(" ") for line in lines if line.strip() and not line.startswith("#version")]
    texts, control = placed(((str(text), index) for text, index in vocab.items()), path)
    draft = Draft("BPE", "bytes", texts, control, merges=_pairs(merges, set(texts), merges_path))
    added, tokenizer_class = _of_config(folder / "tokenizer_config.json")
    _take_added(draft, added, path)
    ordinary = {first + second for first, second in draft.merges} | draft.literal.keys()
    for index, text in enumerate(draft.texts):
        if len(text) > 1 and text not in ordinary:
            draft.control.setdefault(text, index)
    _keep_to_alphabet(draft)
    draft.steps = split_steps("qwen2" if tokenizer_class.startswith("Qwen2") else "gpt2")
    return draft


def _of_config(path: Path) -> tuple[list[dict[str, Any]], str]:
    """(added tokens, class name) as tokenizer_config.json has them; nothing else of that file is looked at."""
    config = read_json(path)[1] if path.is_file() else {}
    decoder = config.get("added_tokens_decoder")
    entries = decoder.items() if isinstance(decoder, dict) else ()
    added = [{**entry, "id": int(i)} for i, entry in entries if i.isdecimal() and isinstance(entry, dict)]
    return _added(added, path), str(config.get("tokenizer_class"))


def _bpe(model: Mapping[str, Any], content: Mapping[str, Any], path: Path) -> Draft:
    vocab, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocab, dict) or not isinstance(merges, list):
        raise ModelFileError(f"{path}: no vocabulary with merges; make or copy the tokenizer again")
    added = _added(content.get("added_tokens"), path)
    entries = [*vocab.items(), *((entry["content"], entry.get("id")) for entry in added)]
    texts, control = placed(entries, path)
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    draft = Draft("BPE", "characters", texts, control, merges=_pairs(pairs, set(texts), path))
    draft.ignore_merges = model.get("ignore_merges") is True
    _take_added(draft, added, path)
    _never(draft, model.get("unk_token"))
    return draft


def _unigram(model: Mapping[str, Any], content: Mapping[str, Any], path: Path) -> Draft:
    vocab = model.get("vocab")
    good = isinstance(vocab, list) and all(
        isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str) and _is_score(entry[1])
        for entry in vocab
    )
    if not good or not isinstance(vocab, list):
        raise ModelFileError(f"{path}: no vocabulary of texts with scores; make or copy the tokenizer again")
    added = _added(content.get("added_tokens"), path)
    entries = [(entry[0], index) for index, entry in enumerate(vocab)]
    texts, control = placed([*entries, *((entry["content"], entry.get("id")) for entry in added)], path)
    scores = [float(entry[1]) for entry in vocab] + [0.0] * (len(texts) - len(vocab))
    draft = Draft("Unigram", "characters", texts, control, scores=scores)
    _take_added(draft, added, path)
    unknown = model.get("unk_id")
    _never(draft, texts[unknown] if type(unknown) is int and 0 <= unknown < len(texts) else None)
    return draft


def _is_score(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < SCORE_LIMIT


def _added(added: Any, path: Path) -> list[dict[str, Any]]:
    entries = added if isinstance(added, list) else []
    if any(not isinstance(e, dict) or not isinstance(e.get("content"), str) or not e["content"] for e in entries):
        raise ModelFileError(f"{path}: an added token without content; make or copy the tokenizer again")
    return entries


def _take_added(draft: Draft, added: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Special ones become control tokens, the others literal text; those behind the vocabulary get their places."""
    known = set(draft.texts)
    beyond = {entry["content"]: entry.get("id") for entry in added if entry["content"] not in known}
    if beyond:
        texts, gaps = placed([*((text, i) for i, text in enumerate(draft.texts)), *beyond.items()], path)
        draft.texts[:] = texts
        draft.control |= gaps
    index_of = {text: index for index, text in enumerate(draft.texts)}
    for entry in added:
        text = entry["content"]
        (draft.control if entry.get("special", True) else draft.literal)[text] = index_of[text]
        if any(entry.get(flag) for flag in ("lstrip", "rstrip", "single_word")) and not entry.get("special", True):
            draft.left_out.append(f"spaces around the added token {text[:20]!r}")


def _never(draft: Draft, text: Any) -> None:
    """A token for unknown text is a control token: with a token for every byte nothing is unknown."""
    if isinstance(text, str) and text in draft.texts:
        draft.control[text] = draft.texts.index(text)
        draft.literal.pop(text, None)


def _pairs(merges: Sequence[Any], known: set[str], path: Path) -> list[list[str]]:
    for number, pair in enumerate(merges):
        strings = isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)
        if not strings or not known.issuperset((*pair, "".join(pair))):
            raise ModelFileError(
                f"{path}: merge {number} ({str(pair)[:40]}) names unknown tokens; make or copy the tokenizer again"
            )
    return [list(pair) for pair in merges]


def _symbol_of_space(before: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]]) -> str:
    """The character that stands for a space in the vocabulary (sentencepiece's `▁`); "" when there is none."""
    for step in (*before, *steps):
        if step.get("type") == "Metaspace":
            return str(step.get("replacement", "▁"))
        if step.get("type") == "Replace" and step.get("pattern") == {"String": " "}:
            return str(step.get("content", ""))
    return ""


def _split_at_spaces(steps: Sequence[Mapping[str, Any]]) -> bool:
    return any(step.get("type") == "Metaspace" and step.get("split", True) for step in steps)


def _shown(kind: str, step: Mapping[str, Any]) -> str:
    return f"{kind} {str(step.get('type'))[:30]}"


def _kept(steps: Sequence[dict[str, Any]], path: Path, left_out: list[str]) -> list[dict[str, Any]]:
    """The steps that lose no character, judged; the others are named in `left_out`."""
    kept = []
    for step in steps:
        if step.get("type") in ("ByteLevel", "Metaspace"):
            if step.get("add_prefix_space") or step.get("prepend_scheme") in ("always", "first"):
                left_out.append("a space before the text")
        elif step.get("type") not in _LOSSLESS_STEPS or step.get("behavior") == "Removed":
            left_out.append(_shown("pre-tokenizer", step))
        else:
            kept.append(step)
    if fault := fault_of_steps(kept):
        raise ModelFileError(f"{path}: {fault}; use another tokenizer")
    return kept


def _byte_level_steps(steps: Sequence[dict[str, Any]], path: Path, left_out: list[str]) -> list[dict[str, Any]]:
    kept = _kept(steps, path, left_out)
    own = any(step.get("type") == "ByteLevel" and step.get("use_regex", True) for step in steps)
    return [*kept, *split_steps("gpt2")] if own else kept


def _keep_to_alphabet(draft: Draft) -> None:
    """What is not spelt in bytes cannot come from text: it is a control token, whether it was declared or not."""
    for index, text in enumerate(draft.texts):
        if text not in draft.literal and not BYTE_OF.keys() >= set(text):
            draft.control.setdefault(text, index)
