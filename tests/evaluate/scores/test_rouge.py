"""ROUGE against brute force."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.evaluate.scores.rouge import rouge, words


def brute_force(one: list[str], other: list[str]) -> dict[str, float]:
    """Bags of n-grams by removal, and every subsequence of the shorter text."""

    def ngrams(size: int) -> float:
        mine = [tuple(one[i : i + size]) for i in range(len(one) - size + 1)]
        theirs = [tuple(other[i : i + size]) for i in range(len(other) - size + 1)]
        left, common = list(theirs), 0
        for each in mine:
            if each in left:
                left.remove(each)
                common += 1
        if not common:
            return 0.0
        precision, recall = common / len(mine), common / len(theirs)
        return 2 * precision * recall / (precision + recall)

    def is_subsequence(kept: tuple[str, ...], text: list[str]) -> bool:
        rest = iter(text)
        return all(word in rest for word in kept)

    lengths = (
        size for size in range(len(one), 0, -1) for kept in combinations(one, size) if is_subsequence(kept, other)
    )
    longest = next(lengths, 0)
    last = 2 * longest / (len(one) + len(other)) if longest else 0.0
    return {"rouge1": ngrams(1), "rouge2": ngrams(2), "rougeL": last}


WORDS = st.lists(st.sampled_from(["cat", "sat", "mat", "the"]), max_size=7)


@given(WORDS, WORDS)
def test_brute_force(one: list[str], other: list[str]) -> None:
    assert rouge(" ".join(one), " ".join(other)) == pytest.approx(brute_force(one, other))


def test_chinese_counts_characters() -> None:
    assert words("北京 in 2024年!") == ["北", "京", "in", "2024", "年"]
    assert rouge("北京市", "北京")["rouge2"] == pytest.approx(2 / 3)
