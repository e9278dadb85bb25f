"""Texts of several sources -> the part of them that a tokenizer is trained on: by shares, up to a number of bytes.

    source --stretches of a few kB--> each taken as often as its share asks for, until its part is full --> texts

Whether a stretch is taken once more is decided by a hash of its text, so only the size of each source must be known.
Invariant: the same texts in the same order give the same sample; the bound is passed by one stretch a source at most.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

STRETCH_CHARACTERS = 8192


@dataclass(frozen=True)
class SourceTexts:
    """The texts of one source, which can be read again and again, and their size."""

    texts: Callable[[], Iterable[str]]
    size_bytes: int


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


def sample(sources: Mapping[str, SourceTexts], shares: Mapping[str, float], limit_bytes: int) -> Iterator[str]:
    """Texts of all sources, in order of the mapping. Without shares and within the limit: every text, whole, once."""
    sizes = {name: source.size_bytes for name, source in sources.items()}
    for name, rate in rates(sizes, shares, limit_bytes).items():
        texts = sources[name].texts()
        yield from texts if rate == 1.0 else _taken(texts, rate, rate * sizes[name])


def _taken(texts: Iterable[str], rate: float, target_bytes: float) -> Iterator[str]:
    """Stretches of the texts, each taken `rate` times on average, until the target is reached."""
    whole, rest = divmod(rate, 1.0)
    taken_bytes = 0
    for text in texts:
        for start in range(0, len(text), STRETCH_CHARACTERS):
            stretch = text[start : start + STRETCH_CHARACTERS]
            data = stretch.encode()
            times = int(whole) + (_draw(data) < rest)
            for _ in range(times):
                if taken_bytes >= target_bytes:
                    return
                taken_bytes += len(data)
                yield stretch


def _draw(data: bytes) -> float:
    """A number from 0 to 1 that only the content decides."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") / 2.0**64
