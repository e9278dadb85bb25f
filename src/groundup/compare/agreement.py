"""Verdicts -> win rates with standard errors, how far both orders agree, and how far judge and people do.

Cohen's kappa (1960) is agreement beyond that which their shares of each verdict would give by chance:
(observed - expected) / (1 - expected); its standard error is sqrt(p (1 - p) / n) / (1 - expected).

Invariant: what could not be read or was not judged counts nowhere but in its own number.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.compare.judge import Judgement, Verdict
from groundup.compare.pairs import Pair
from groundup.corpus.reading.files import find_files
from groundup.corpus.reading.readers import Reading
from groundup.corpus.reading.records import Row
from groundup.corpus.reading.sources import RecordSourceConfig
from groundup.errors import DataError
from groundup.evaluate import Metric, mean

WORTH: Mapping[Verdict, float] = {"a": 0.0, "tie": 0.5, "b": 1.0}
"""What a verdict is worth for B."""


@dataclass(frozen=True)
class Agreement:
    """How often two say the same of the same pairs, and how much more often than by chance (None: no meaning)."""

    share: Metric
    kappa: float | None
    kappa_stderr: float | None

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {"agreement": self.share.as_dict(), "kappa": self.kappa, "kappa_stderr": self.kappa_stderr}


@dataclass(frozen=True)
class Tally:
    """All verdicts of a judge."""

    wins: Mapping[str, int]
    """a, b and tie: pairs with that verdict."""
    rate: Metric
    """Share of prompts that B wins, ties half, with its standard error over prompts."""
    orders: Agreement
    """Of the two orders, over the pairs that were asked about."""
    first_place: Metric
    """How often the answer in the first place won, of verdicts that were no tie; 0.5 is fair."""
    unreadable: int
    unjudged: int
    equal: int
    """Pairs of equal answers: a tie without asking."""
    people: Agreement | None = None

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {
            "wins": dict(self.wins),
            "win_rate_b": self.rate.as_dict(),
            "orders": self.orders.as_dict(),
            "first_place": self.first_place.as_dict(),
            "unreadable": self.unreadable,
            "unjudged": self.unjudged,
            "equal_answers": self.equal,
            "people": self.people.as_dict() if self.people else None,
        }


def agreement(pairs: Sequence[tuple[str, str]]) -> Agreement:
    """Of two raters, a pair of verdicts each time."""
    count = len(pairs)
    share = mean([float(one == other) for one, other in pairs])
    ones, others = Counter(one for one, _ in pairs), Counter(other for _, other in pairs)
    expected = sum(ones[verdict] * others[verdict] for verdict in ones) / count**2 if count else 1.0
    if expected >= 1.0:
        return Agreement(share, None, None)
    kappa = (share.value - expected) / (1.0 - expected)
    return Agreement(share, kappa, math.sqrt(share.value * (1.0 - share.value) / count) / (1.0 - expected))


def tally(
    pairs: Sequence[Pair], judgements: Sequence[Judgement | None], people: Mapping[str, Verdict] | None = None
) -> Tally:
    """What all judgements say together; `people`: verdicts by id of prompt."""
    judged = [each for each in judgements if each is not None]
    verdicts = [each.verdict for each in judged if each.verdict is not None]
    asked = [each for each in judged if each.asked]
    both = [(each.first, each.second) for each in asked if each.first is not None and each.second is not None]
    places = [each.first == "a" for each in asked if each.first in ("a", "b")]
    places += [each.second == "b" for each in asked if each.second in ("a", "b")]
    matched = [
        (judgement.verdict, people[pair.prompt.id])
        for pair, judgement in zip(pairs, judgements)
        if people and judgement and judgement.verdict and pair.prompt.id in people
    ]
    return Tally(
        wins={verdict: verdicts.count(verdict) for verdict in WORTH},
        rate=mean([WORTH[verdict] for verdict in verdicts]),
        orders=agreement(both),
        first_place=mean([float(first) for first in places]),
        unreadable=sum(each.verdict is None for each in judged),
        unjudged=sum(each is None for each in judgements),
        equal=sum(not each.asked for each in judged),
        people=agreement(matched) if people is not None else None,
    )


def read_people(path: str, pairs: Sequence[Pair]) -> dict[str, Verdict]:
    """Verdicts of people by id of prompt: records with `verdict` (a, b, tie) and `id`, or the `prompt` itself.

    Raises DataError when one is none, or none is about these prompts.
    """
    ids = {pair.prompt.text: pair.prompt.id for pair in pairs} | {pair.prompt.id: pair.prompt.id for pair in pairs}
    found: dict[str, Verdict] = {}
    source = RecordSourceConfig(name="people", path=path, known_keys=("verdict",))
    for file in find_files(path, Path.cwd()).files:
        for row in Reading(file, source, Path(tempfile.gettempdir())).rows():
            where = f"{file.name}:{row.number}"
            if not isinstance(row, Row):
                raise DataError(f"{where}: {row.reason}; give JSON lines with id and verdict")
            verdict = next((known for known in WORTH if known == str(row.values.get("verdict", "")).lower()), None)
            if verdict is None:
                raise DataError(f"{where}: verdict {str(row.values.get('verdict'))[:20]!r}; it is a, b or tie")
            id = ids.get(str(row.values.get("id", row.values.get("prompt"))))
            if id is not None:
                found[id] = verdict
    if not found:
        raise DataError(f"{path[-60:]}: no verdict in it is about one of these prompts; give their id, or prompt")
    return found
