"""The pages of the benchmark hold their main text, and its score is what it says."""

from __future__ import annotations

import re

import pytest
from benchmarks.pages import LAYOUTS, WORDS, pages

from benchmarks import html_text as html


def test_every_layout_in_every_language_holds_its_text() -> None:
    made = list(pages())
    assert len(made) == len(LAYOUTS) * len(WORDS)
    for page in made:
        visible = " ".join(re.sub(r"<[^>]+>", " ", page.markup).split())
        assert all(" ".join(line.split()) in visible for line in page.main.split("\n") if "=" not in line)
    assert made == list(pages())


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        ("a b c d e", "a b c d e", (1.0, 1.0)),
        ("a b c d e f g h", "a b c d", (0.2, 1.0)),
        ("a b c d", "a b c d e f g h", (1.0, 0.2)),
        ("", "a b c d", (1.0, 0.0)),
        ("茶馆门口种着树", "茶馆门口", (0.25, 1.0)),
        ("x y", "a b", (0.0, 0.0)),
    ],
)
def test_precision_and_recall(found: str, wanted: str, expected: tuple[float, float]) -> None:
    assert html.precision_recall(found, wanted) == expected


def test_quality_of_a_perfect_and_an_empty_answer() -> None:
    some = list(pages())[:6]
    perfect = html.quality([f"{WORDS['en'].headline}\n{page.main}" for page in some], some)
    assert (perfect["f1"], perfect["empty"]) == (1.0, 0)
    assert html.quality([""] * 6, some) == {"f1": 0.0, "precision": 0.0, "recall": 0.0, "empty": 6}
