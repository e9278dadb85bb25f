"""Labelled records of public-domain text, for `recipes/classify-mini.yaml` and for trying tasks.

    python data/passages/build.py

From the five novels by Jane Austen of `../atlas/text/austen.jsonl.gz`:

    books-train.jsonl, books-heldout.jsonl      passage -> the novel that it is from
    pairs-train.tsv, pairs-heldout.tsv          two paragraphs -> does the second follow the first in the novel

Every fifth chapter is held out, so no held-out passage stands beside one that is trained on.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
SOURCE = HERE.parent / "atlas" / "text" / "austen.jsonl.gz"
LONGEST, SHORTEST = 420, 120
"""Characters of a passage."""
HELDOUT_EVERY = 5
PASSAGES_OF_CHAPTER = 10


def chapters() -> Iterator[tuple[str, int, list[str]]]:
    """(novel, number of its chapter, paragraphs)."""
    with gzip.open(SOURCE, "rt", encoding="utf-8") as handle:
        for line in handle:
            record = json.loads(line)
            _, novel, number = record["id"].split("/")
            yield novel, int(number), record["text"].split("\n\n")


def number_of(text: str) -> int:
    """A number that looks random and belongs to the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def shortened(text: str) -> str:
    """The text up to a sentence's or at least a word's end within `LONGEST`."""
    if len(text) <= LONGEST:
        return text
    cut = text[:LONGEST]
    return cut[: cut.rfind(". ") + 1] if cut.rfind(". ") >= SHORTEST else cut[: cut.rfind(" ")]


def build() -> dict[str, list[str]]:
    """Lines of each file."""
    files: dict[str, list[str]] = {
        f"{kind}-{split}.{ending}": ["first\tsecond\tfollows"] if kind == "pairs" else []
        for split in ("train", "heldout")
        for kind, ending in (("books", "jsonl"), ("pairs", "tsv"))
    }
    for novel, number, paragraphs in chapters():
        split = "heldout" if number % HELDOUT_EVERY == 0 else "train"
        usable = [shortened(each) for each in paragraphs if len(each) >= SHORTEST]
        for passage in sorted(usable, key=number_of)[:PASSAGES_OF_CHAPTER]:
            record = {"passage": passage, "book": novel.replace("_", " ")}
            files[f"books-{split}.jsonl"].append(json.dumps(record, ensure_ascii=False))
        starts = sorted(range(len(usable) - 1), key=lambda at: number_of(usable[at]))[:PASSAGES_OF_CHAPTER]
        for turn, at in enumerate(starts):
            follows = turn % 2 == 0
            others = [other for other in range(len(usable)) if other not in (at, at + 1)]
            if not follows and not others:
                continue
            second = at + 1 if follows else others[number_of(usable[at + 1]) % len(others)]
            clean = ("\t".join(" ".join(usable[each].split()) for each in (at, second)), "yes" if follows else "no")
            files[f"pairs-{split}.tsv"].append("\t".join(clean))
    return files


if __name__ == "__main__":
    for name, lines in build().items():
        packed = gzip.compress(("\n".join(lines) + "\n").encode(), mtime=0)
        (HERE / f"{name}.gz").write_bytes(packed)
