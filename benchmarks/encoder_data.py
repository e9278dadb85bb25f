"""Text and labelled texts -> one folder of arrays that every tool of the encoder comparison trains on.

    documents --> tokenizer --> rows [CLS] first [SEP] second [SEP], masked --> pretrain/ heldout/   (.npy each)
    labelled texts (a file of `text<TAB>label`, or passages of novels) -----> task/train, task/heldout, task/*.json

Half of the second texts come from another document. Pairs and masks are drawn once, so all tools see the same bytes in
the same order. Invariant: held-out documents (chapters, of novels) give held-out rows and texts only.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import corpus
from groundup.tokens import (
    CONTROL_TOKENS,
    ENCODER_TOKENS,
    Example,
    Masking,
    MaskingConfig,
    Tokenizer,
    TokenizerConfig,
    WordStarts,
    labels_of,
    train_tokenizer,
    write_examples,
)

NOVELS = ("data/atlas/text/austen.jsonl.gz", "data/atlas/test/persuasion.jsonl.gz")
HELDOUT_SHARE = 0.05
HELDOUT_CHAPTERS = 5
"""Of so many chapters of a novel one is held out."""
PASSAGE_WORDS = (15, 60)
TITLES = ("Mr.", "Mrs.", "Dr.", "St.")
Rows = dict[str, NDArray[np.int64]]


def prepare(
    texts: Sequence[str],
    labelled: dict[str, list[tuple[str, str]]],
    vocab_size: int,
    time: int,
    rows: int,
    folder: Path,
) -> dict[str, Any]:
    """Write everything; returns the labels and the counts."""
    sides: dict[str, list[str]] = {"train": [], "heldout": []}
    for text in texts:
        sides["heldout" if corpus.is_heldout(text, HELDOUT_SHARE) else "train"].append(text)
    (folder / "tokenizer").mkdir(parents=True)
    control = (*CONTROL_TOKENS, *ENCODER_TOKENS)
    train_tokenizer(TokenizerConfig(vocab_size=vocab_size), sides["train"], folder / "tokenizer", control)
    tokenizer = Tokenizer.load(folder / "tokenizer")
    for side, count in (("train", rows), ("heldout", 256)):
        for name, plane in pretraining_rows(sides[side], tokenizer, time, count).items():
            np.save(folder / f"{side}-{name}.npy", plane)
    examples = {
        side: [Example(f"{side}:{i}", text, label=label) for i, (text, label) in enumerate(found)]
        for side, found in labelled.items()
    }
    labels = list(labels_of(examples["train"], "sequence"))
    ids = tokenizer.need_encoder_ids()
    for side, found in examples.items():
        write_examples(found, "sequence", labels, tokenizer, folder / "task" / side, time)
        encoded = tokenizer.encode_batch([each.text for each in found])
        plain = [
            {"input_ids": [ids.cls, *list(map(int, tokens))[: time - 2], ids.sep], "labels": labels.index(each.label)}
            for tokens, each in zip(encoded, found)
        ]
        (folder / "task" / f"{side}.json").write_text(json.dumps(plain))
    facts = {"labels": labels, "pad": ids.pad, "examples": {side: len(found) for side, found in examples.items()}}
    (folder / "facts.json").write_text(json.dumps(facts))
    return facts


def pretraining_rows(texts: Sequence[str], tokenizer: Tokenizer, time: int, count: int) -> Rows:
    """`count` masked rows [count, time], epoch by epoch, each with pairs and masks of its own."""
    ids = tokenizer.need_encoder_ids()
    masking = Masking(MaskingConfig(), WordStarts(tokenizer), ids.mask, seed=1)
    room = time - 3
    windows = [
        np.asarray(document[start : start + room])
        for document in tokenizer.encode_batch(list(texts))
        for start in range(0, len(document) - room + 1, room)
    ]
    random = np.random.default_rng(1)
    made: dict[str, list[Any]] = {"tokens": [], "parts": [], "targets": [], "follows": []}
    order: NDArray[np.int64] = np.empty(0, np.int64)
    for number in range(count):
        if number % len(windows) == 0:
            order = random.permutation(len(windows))
        window, cut = windows[order[number % len(windows)]], int(random.integers(room // 4, room - room // 4))
        strange = bool(random.integers(2))
        second = windows[random.integers(len(windows))][cut:] if strange else window[cut:]
        row = np.concatenate([[ids.cls], window[:cut], [ids.sep], second, [ids.sep]]).astype(np.int64)
        tokens, targets = masking.apply(row, number)
        made["tokens"].append(tokens)
        made["targets"].append(targets)
        made["parts"].append((np.arange(time) > cut + 1).astype(np.int64))
        made["follows"].append(int(strange))
    return {name: np.array(planes) for name, planes in made.items()}


def read_labelled(file: Path, heldout: Path | None) -> dict[str, list[tuple[str, str]]]:
    """Files of `text<TAB>label`; without one for held-out texts every tenth is held out."""
    found = list(_tab_separated(file))
    if heldout is not None:
        return {"train": found, "heldout": list(_tab_separated(heldout))}
    return {
        "train": [each for i, each in enumerate(found) if i % 10],
        "heldout": [each for i, each in enumerate(found) if i % 10 == 0],
    }


def _tab_separated(file: Path) -> Iterator[tuple[str, str]]:
    raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    for line in raw.decode().splitlines():
        text, found, label = line.rpartition("\t")
        if found:
            yield text, label


def novel_passages(root: Path, per_novel: int) -> dict[str, list[tuple[str, str]]]:
    """Passages of 15 to 60 words, labelled with the novel that they are from; equally many of each for training.

    Words with a capital letter within a sentence are left out: names would tell all.
    """
    found: dict[str, dict[str, list[str]]] = {"train": {}, "heldout": {}}
    for name in NOVELS:
        for line in gzip.decompress((root / name).read_bytes()).decode().splitlines():
            record = json.loads(line)
            novel, chapter = record["id"].split("/")[1:3]
            side = "train" if int(re.sub(r"\D", "", chapter) or 0) % HELDOUT_CHAPTERS else "heldout"
            found[side].setdefault(novel, []).extend(passages(record["text"]))
    random = np.random.default_rng(1)
    return {
        side: [
            (texts[i], novel)
            for novel, texts in sorted(novels.items())
            for i in random.permutation(len(texts))[: per_novel if side == "train" else per_novel // 5]
        ]
        for side, novels in found.items()
    }


def passages(text: str) -> Iterator[str]:
    """Paragraphs in pieces, without names."""
    least, most = PASSAGE_WORDS
    for paragraph in text.split("\n\n"):
        words = paragraph.split()
        kept = [word for before, word in zip([".", *words], words) if not _is_name(before, word)]
        for start in range(0, len(kept), most):
            if len(kept[start : start + most]) >= least:
                yield " ".join(kept[start : start + most])


def _is_name(before: str, word: str) -> bool:
    """Whether a word has a capital letter that no sentence begins with."""
    begins = before.rstrip("\"'”’)_")[-1:] in (".", "!", "?", "") and before not in TITLES
    return word.lstrip("\"'“‘(_")[:1].isupper() and not begins and word.strip(",;") != "I"
