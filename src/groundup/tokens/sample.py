"""Texts of several sources -> the part of them that a tokenizer is trained on: by shares, up to a number of bytes.

    source --stretches of a few kB--> each taken as often as its share asks for, until its part is full --> texts

Whether a stretch is taken once more is decided by a hash of its text, so only the size of each source must be known,
and files of documents can be gone through by workers, each for itself. Invariant: the same texts in the same order give
the same sample; the bound is passed by one stretch a source at most.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

from groundup.corpus import Engine
from groundup.corpus.documents import LineWriter, documents_of, read_lines

STRETCH_CHARACTERS = 8192


@dataclass(frozen=True)
class SourceTexts:
    """The texts of one source, which can be read again and again, and their size."""

    texts: Callable[[], Iterable[str]]
    size_bytes: int

    def stretches(self, rate: float) -> Iterator[str]:
        """Stretches of the texts, each taken `rate` times on average."""
        return _drawn(self.texts(), rate)


@dataclass(frozen=True)
class SourceFiles:
    """The texts of one source in files of documents, which workers go through; see `SourceTexts`."""

    files: Sequence[Path]
    size_bytes: int
    scratch: Path
    """Folder for what is taken of each file; the caller removes it."""
    engine: Engine

    def texts(self) -> Iterator[str]:
        """All texts, in order."""
        return (document.text for path in self.files for document in documents_of(path))

    def stretches(self, rate: float) -> Iterator[str]:
        """Stretches of the texts, each taken `rate` times on average, in the order of the texts."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        tasks = [_Drawing(path, rate, self.scratch / f"{number:06d}") for number, path in enumerate(self.files)]
        self.engine.run_all(_draw_file, tasks)
        return (str(json.loads(line)) for task in tasks for line in read_lines(task.target))


@dataclass(frozen=True)
class _Drawing:
    documents: Path
    rate: float
    target: Path


def _draw_file(task: _Drawing) -> None:
    """Write what is taken of a file of documents, a JSON string a line."""
    with LineWriter(task.target) as writer:
        for stretch in _drawn((each.text for each in documents_of(task.documents)), task.rate):
            writer.write(json.dumps(stretch).encode() + b"\n")


def rates(sizes: Mapping[str, int], shares: Mapping[str, float], limit_bytes: int) -> dict[str, float]:
    """How often to take each source's text: its share (none given: its size) of all there is, or of the limit if any.

    Above 1 for a source that is smaller than its part: it is repeated, as it is in training with these shares.
    """
    total = sum(sizes.values())
    wanted = min(limit_bytes or total, total)
    if not shares:
        return {name: wanted / total for name, size in sizes.items() if size}
    together = sum(share for name, share in shares.items() if sizes.get(name))
    return {name: wanted * shares[name] / together / size for name, size in sizes.items() if size and shares.get(name)}


def sample(
    sources: Mapping[str, SourceTexts | SourceFiles], shares: Mapping[str, float], limit_bytes: int
) -> Iterator[str]:
    """Texts of all sources, in order of the mapping. Without shares and within the limit: every text, whole, once."""
    sizes = {name: source.size_bytes for name, source in sources.items()}
    for name, rate in rates(sizes, shares, limit_bytes).items():
        source = sources[name]
        yield from source.texts() if rate == 1.0 else _up_to(source.stretches(rate), rate * sizes[name])


def _up_to(stretches: Iterable[str], target_bytes: float) -> Iterator[str]:
    """The first stretches, until the target is reached."""
    taken_bytes = 0
    for stretch in stretches:
        if taken_bytes >= target_bytes:
            return
        taken_bytes += len(stretch.encode())
        yield stretch


def _drawn(texts: Iterable[str], rate: float) -> Iterator[str]:
    """Stretches of the texts, each as often as its hash says."""
    whole, rest = divmod(rate, 1.0)
    for text in texts:
        for start in range(0, len(text), STRETCH_CHARACTERS):
            stretch = text[start : start + STRETCH_CHARACTERS]
            yield from repeat(stretch, int(whole) + (_draw(stretch.encode()) < rest))


def _draw(data: bytes) -> float:
    """A number from 0 to 1 that only the content decides."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") / 2.0**64
