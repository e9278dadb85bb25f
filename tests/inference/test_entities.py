"""Entities from labels, as conlleval and seqeval find them, and their figures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.evaluate import label_metrics
from groundup.inference import entities, spells_entities

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "E-LOC", "S-PER", "B", "I"]


def by_conlleval(labels: list[str]) -> list[tuple[str, int, int]]:
    """The rules as conlleval states them: when a chunk ends and when one begins, from two labels side by side."""
    found, begin = [], 0
    before, kind_before = "O", ""
    for at, label in enumerate([*labels, "O"]):
        tag, _, kind = label.partition("-")
        ends = before in ("E", "S") or (before in ("B", "I") and tag in ("B", "S", "O"))
        ends |= before != "O" and kind != kind_before
        begins = tag in ("B", "S") or (before in ("E", "S", "O") and tag in ("E", "I"))
        begins |= tag != "O" and kind != kind_before
        if ends:
            found.append((kind_before, begin, at - 1))
        if begins:
            begin = at
        before, kind_before = tag, kind
    return found


@given(st.lists(st.sampled_from(TAGS), max_size=12))
def test_entities_are_those_of_conlleval(labels: list[str]) -> None:
    assert [tuple(entity) for entity in entities(labels)] == by_conlleval(labels)


def test_known_ones() -> None:
    labels = ["B-PER", "I-PER", "O", "O", "B-LOC", "B-LOC", "I-ORG", "O", "I-PER"]
    assert [tuple(each) for each in entities(labels)] == [
        ("PER", 0, 1), ("LOC", 4, 4), ("LOC", 5, 5), ("ORG", 6, 6), ("PER", 8, 8),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "spelt"),
    [
        (["O", "B-PER", "I-PER"], True),
        (["B", "M", "E", "S"], True),
        (["NOUN", "VERB", "O"], False),
        (["O"], False),
        (["S", "E"], False),
        (["B-PER", "X"], False),
    ],
)
def test_names_of_their_own_are_told_apart(labels: list[str], spelt: bool) -> None:
    assert spells_entities(labels) == spelt


def test_f1_by_kind_counts_whole_entities() -> None:
    expected = {(0, "PER", 0, 1), (0, "LOC", 4, 4), (1, "LOC", 0, 0)}
    predicted = {(0, "PER", 0, 0), (0, "LOC", 4, 4), (2, "ORG", 0, 0)}
    assert label_metrics.f1_by_kind(predicted, expected) == {"LOC": pytest.approx(2 / 3), "ORG": 0.0, "PER": 0.0}
