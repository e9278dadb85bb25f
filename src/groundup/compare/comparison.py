"""Two models, prompts, perhaps a judge -> a comparison, as a page for people and as JSON for programs.

Invariant: the page is written also when the judge stays away; it says how many pairs were judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from groundup import report
from groundup.compare.agreement import Tally, read_people, tally
from groundup.compare.judge import Judge, Judgement
from groundup.compare.pairs import Difference, Pair, answered, differences, pairs_of
from groundup.compare.prompts import Prompt
from groundup.export import LoadedModel
from groundup.log import logger, progress

SHOWN_PAIRS = 1000
"""On the page; the figures are over all."""


@dataclass(frozen=True)
class Side:
    """One of the two: what it is called, its model, and the figures of its run's evaluation, if it is a run."""

    name: str
    model: LoadedModel
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """What was found."""

    names: tuple[str, str]
    pairs: Sequence[Pair]
    differences: Sequence[Difference]
    figures: tuple[Mapping[str, Any], Mapping[str, Any]]
    judge: str = ""
    judgements: Sequence[Judgement | None] = ()
    tally: Tally | None = None
    fault: str = ""
    """Why the judge stopped early."""

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        verdicts = [each.verdict if each else None for each in self.judgements] or [None] * len(self.pairs)
        return {
            **dict(zip(("a", "b"), self.names)),
            "prompts": len(self.pairs),
            "figures": {
                each.name: {
                    "a": each.sides[0].as_dict(),
                    "b": each.sides[1].as_dict(),
                    "b_minus_a": each.difference.as_dict(),
                }
                for each in self.differences
            },
            "judge": {"model": self.judge, "fault": self.fault, **self.tally.as_dict()} if self.tally else None,
            "pairs": [{**pair.as_dict(), "verdict": verdict} for pair, verdict in zip(self.pairs, verdicts)],
        }

    def page(self) -> str:
        """The page."""
        shown = self.as_dict() | {"pairs": self._shown_pairs(), "evaluation": list(self.figures)}
        better = [{"name": each.name, "a": each.better[0], "b": each.better[1]} for each in self.differences]
        return report.render_comparison({**shown, "better": better, "all_pairs": len(self.pairs)})

    def _shown_pairs(self) -> list[dict[str, Any]]:
        """Evenly spread, with what both orders said."""
        count = min(len(self.pairs), SHOWN_PAIRS)
        places = [place * len(self.pairs) // count for place in range(count)] if count else []
        judged = list(self.judgements) or [None] * len(self.pairs)
        return [
            {**self.pairs[place].as_dict(), "judgement": _said(judged[place]), "same": _same(self.pairs[place])}
            for place in places
        ]


def _same(pair: Pair) -> bool:
    return pair.answers[0].strip() == pair.answers[1].strip()


def _said(judgement: Judgement | None) -> dict[str, Any] | None:
    if judgement is None or not judgement.asked:
        return None
    return {"verdict": judgement.verdict, "orders": [judgement.first, judgement.second]}


def compare(
    sides: tuple[Side, Side],
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    judge: Judge | None = None,
    judge_name: str = "",
    people: str | None = None,
) -> Comparison:
    """Ask both models, then the judge. `people`: a file of their verdicts; raises DataError for a bad one."""
    one, other = (answered(side.model, prompts, max_new_tokens, side.name[-40:]) for side in sides)
    pairs = pairs_of(prompts, one, other)
    names = (sides[0].name, sides[1].name)
    found = Comparison(names, pairs, differences(pairs), (sides[0].figures, sides[1].figures))
    if judge is None:
        return found
    verdicts = read_people(people, pairs) if people is not None else None
    with progress("judge", len(pairs), "pairs") as bar:
        judgements, fault = judge.judge(pairs, bar.advance)
    if fault:
        logger.warning(f"the judge stopped early: {fault}")
    counted = tally(pairs, judgements, verdicts)
    return Comparison(names, pairs, found.differences, found.figures, judge_name, judgements, counted, fault)


def write_page(comparison: Comparison, path: Path) -> None:
    """The page into a file."""
    report.write_page(path, comparison.page())
