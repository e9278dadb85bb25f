from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.corpus import Document
from groundup.corpus.documents import LineWriter, to_line
from groundup.corpus.engines.processes import HERE
from groundup.tokens import SourceFiles, SourceTexts, sample
from groundup.tokens.sample import STRETCH_CHARACTERS, _drawn, rates

NAMES = st.sampled_from(["a", "b", "c"])


def source(name: str, count: int, length: int = 400) -> SourceTexts:
    texts = [f"{name}{i} ".ljust(length, "x") for i in range(count)]
    return SourceTexts(lambda: iter(texts), sum(map(len, texts)))


def taken(texts: list[str]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for text in texts:
        sums[text[0]] = sums.get(text[0], 0) + len(text)
    return sums


def test_without_shares_within_the_limit_every_text_comes_whole_and_once() -> None:
    sources = {"a": source("a", 5, 3 * STRETCH_CHARACTERS), "b": source("b", 3)}
    everything = [text for each in sources.values() for text in each.texts()]
    assert list(sample(sources, {}, 0)) == everything
    assert list(sample(sources, {}, sum(each.size_bytes for each in sources.values()))) == everything


@given(
    st.dictionaries(NAMES, st.integers(0, 10**12), min_size=1),
    st.dictionaries(NAMES, st.floats(0, 10)),
    st.integers(0, 10**12),
)
def test_rates_give_the_shares_of_the_bound(sizes: dict[str, int], shares: dict[str, float], limit: int) -> None:
    found = rates(sizes, shares, limit)
    wanted = min(limit or sum(sizes.values()), sum(sizes.values()))
    there = {name: share for name, share in shares.items() if share and sizes.get(name)}
    assert sum(rate * sizes[name] for name, rate in found.items()) == pytest.approx(
        wanted if there or not shares else 0
    )
    for name, rate in found.items():
        share = there[name] / sum(there.values()) if shares else sizes[name] / sum(sizes.values())
        assert rate * sizes[name] == pytest.approx(share * wanted)


@pytest.mark.parametrize("shares", [{}, {"a": 0.5, "b": 0.5}, {"a": 3.0, "b": 1.0}, {"b": 1.0}])
@pytest.mark.parametrize("limit", [0, 100_000])
def test_a_sample_has_the_shares_asked_for_and_keeps_to_the_bound(shares: dict[str, float], limit: int) -> None:
    sources = {"a": source("a", 900), "b": source("b", 100)}
    sums = taken(list(sample(sources, shares, limit)))
    wanted = limit or 400_000
    weights = shares or {"a": 0.9, "b": 0.1}
    assert sums.keys() == {name for name, weight in weights.items() if weight}
    for name, size in sums.items():
        target = wanted * weights[name] / sum(weights.values())
        assert target * 0.75 < size < target + 400, "near its part, and over it by less than a document"


def test_the_same_texts_give_the_same_sample_and_long_ones_are_sampled_in_stretches() -> None:
    draw = random.Random(1)
    texts = ["".join(draw.choices("ab ", k=100 * STRETCH_CHARACTERS)) for _ in range(4)]
    sources = {"a": SourceTexts(lambda: texts, sum(map(len, texts)))}
    first, second = (list(sample(sources, {}, 50 * STRETCH_CHARACTERS)) for _ in range(2))
    assert first == second
    assert max(map(len, first)) == STRETCH_CHARACTERS
    assert sum(map(len, first)) == pytest.approx(50 * STRETCH_CHARACTERS, rel=0.5)


def test_nothing_gives_nothing() -> None:
    assert list(sample({}, {}, 0)) == []
    assert list(sample({"a": source("a", 0)}, {"a": 1.0}, 100)) == []


def test_files_that_workers_go_through_give_the_same_sample(tmp_path: Path) -> None:
    draw, files, texts = random.Random(2), [], []
    for number in range(3):
        files.append(tmp_path / f"{number}.zst")
        with LineWriter(files[-1]) as writer:
            for row in range(20):
                texts.append("".join(draw.choices("ab é\n", k=draw.randrange(1, 3 * STRETCH_CHARACTERS))))
                writer.write(to_line(Document(f"f:{row}", texts[-1], "s")))
    size = sum(len(text.encode()) for text in texts)
    whole = {"a": SourceTexts(lambda: texts, size)}
    for limit, shares in ((0, {}), (size // 3, {}), (0, {"a": 1.0})):
        cut = {"a": SourceFiles(files, size, tmp_path / "scratch", HERE)}
        assert list(sample(cut, shares, limit)) == list(sample(whole, shares, limit))
    twice = [list(_drawn(each.texts(), 2.5)) for each in (whole["a"], cut["a"])]
    assert twice[0] == twice[1] == list(cut["a"].stretches(2.5))
