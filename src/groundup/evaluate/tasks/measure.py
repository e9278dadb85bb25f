"""The tasks of a config -> metrics with standard errors, and every prompt, answer and score that is kept.

    records --twice: once to count them, once, some hundred at a time, to ask--> outcomes --> sums --> metrics
                                          \\-> evenly spaced samples

    <task>/<metric>            over all items
    <task>/<metric>/<group>    over those of a group
    <task>/<metric>/clean      over those that are not in the training text, where that was looked for
    <task>/contamination       share of items of which a text is in the training text

Invariant: memory does not grow with the number of items, and total = accepted + rejected of every task's records.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any

from groundup.errors import DataError, printable
from groundup.evaluate.metrics import ClusterRatio, Metric
from groundup.evaluate.scores.bootstrap import ResampledScore
from groundup.evaluate.task import EvaluateConfig, Result, Subject
from groundup.evaluate.tasks.choices import BiasPairs, LastWord, MinimalPairs, MultipleChoice
from groundup.evaluate.tasks.config import (
    BenchmarkConfig,
    BiasPairsConfig,
    EvaluationTask,
    GenerationTaskConfig,
    LastWordConfig,
    MinimalPairsConfig,
    MultipleChoiceConfig,
    PromptedConfig,
)
from groundup.evaluate.tasks.generation import Generation
from groundup.evaluate.tasks.items import Item, Prompt
from groundup.evaluate.tasks.kinds import Asked, Kind, Outcome
from groundup.evaluate.tasks.records import Account, read_records
from groundup.evaluate.tasks.refused import Refused
from groundup.evaluate.tasks.shots import Shots
from groundup.log import logger, progress

ITEMS_AT_ONCE = 512
"""Enough that items of equal length, which share a batch, are many."""
MAX_SAMPLES = 2000
MAX_GROUPS = 200
CLEAN, CONTAMINATION = "clean", "contamination"


def kind_of(task: EvaluationTask) -> Kind:
    """What a task does."""
    if isinstance(task, MultipleChoiceConfig):
        return MultipleChoice(task)
    if isinstance(task, LastWordConfig):
        return LastWord(task)
    if isinstance(task, MinimalPairsConfig):
        return MinimalPairs(task)
    if isinstance(task, BiasPairsConfig):
        return BiasPairs(task)
    assert isinstance(task, GenerationTaskConfig), "the union has no other kind"
    return Generation(task)


def measure_tasks(subject: Subject, config: EvaluateConfig) -> Result:
    """Every task of `config.tasks`, one after the other."""
    metrics: dict[str, Metric] = {}
    samples: dict[str, Any] = {}
    for task in config.tasks:
        found = measure_task(subject, task)
        metrics.update({f"{task.name}/{name}": metric for name, metric in found.metrics.items()})
        samples[task.name] = found.samples
    return Result(metrics, {"tasks": samples} if samples else {})


def measure_task(subject: Subject, task: EvaluationTask) -> Result:
    """One task. Raises DataError when none of its records can be asked."""
    kind = kind_of(task)
    count, shots = _prepared(task, kind)
    wanted = min(task.limit or count, count)
    account, scores = Account(), _Scores(kind, task, subject.contaminated.get(task.name))
    samples: list[dict[str, Any]] = []
    chosen, done = evenly(items_of(task.path, task, kind, account), wanted, count), 0
    with progress(task.name, wanted, "items") as bar:
        while items := list(islice(chosen, ITEMS_AT_ONCE)):
            asked = [Asked(item, prompts_of(task, item, shots)) for item in items]
            outcomes = kind.ask(subject, asked, bar.advance)
            scores.add(items, outcomes)
            samples += [each.sample for place, each in enumerate(outcomes, start=done) if _is_kept(place, wanted)]
            done += len(items)
    metrics, about = scores.metrics(), kind.about()
    for name, signature in about.get("signatures", {}).items():
        logger.info(f"{task.name}/{name}: {signature}")
    return Result(metrics, {"kind": task.kind, "records": account.as_dict(), "asked": done, **about, "items": samples})


def _prepared(task: EvaluationTask, kind: Kind) -> tuple[int, Shots | None]:
    """How many items there are, shown to the kind one by one, and where the solved examples come from."""
    account, count = Account(), 0
    for item in items_of(task.path, task, kind, account):
        kind.look(item)
        count += 1
    if not count:
        raise DataError(
            f"evaluate.tasks '{task.name}': no record of {task.path[-40:]} can be asked: "
            f"{printable(account.reasons())[:70] or 'it is empty'}; correct path or fields",
            details=[sample for samples in account.samples.values() for sample in samples],
        )
    if account.rejected:
        first = printable(next(iter(account.samples.values()))[0])
        logger.warning(f"{task.name}: {printable(account.reasons())} rejected; for example {first}")
    few = task.few_shot if isinstance(task, PromptedConfig) else None
    if few is None:
        return count, None
    return count, Shots(few, items_of(few.path or task.path, task, kind, Account()), task.name)


def items_of(path: str, task: BenchmarkConfig, kind: Kind, account: Account) -> Iterator[Item]:
    """The items of a file, in order; what is none goes into `account`."""
    needed = dict.fromkeys((*kind.fields, *([task.group_field] if task.group_field else [])))
    for record in read_records(path, tuple(needed), kind.optional_fields, account):
        try:
            item = kind.item(record.id, record.values)
        except Refused as refused:
            account.reject(refused.reason, f"{record.id} {refused.found}".strip())
        else:
            account.accepted += 1
            yield item


def evenly(items: Iterator[Item], wanted: int, count: int) -> Iterator[Item]:
    """`wanted` of `count` items, evenly spread."""
    taken = 0
    for place, item in enumerate(items):
        if taken < wanted and place == taken * count // wanted:
            taken += 1
            yield item


def _is_kept(place: int, count: int) -> bool:
    """Whether the sample at a place is kept: all of them, or MAX_SAMPLES evenly spread."""
    step = max(count, MAX_SAMPLES)
    return place * MAX_SAMPLES // step != (place - 1) * MAX_SAMPLES // step


def prompts_of(task: BenchmarkConfig, item: Item, shots: Shots | None) -> tuple[Prompt, ...]:
    """What stands before each continuation of an item, or the one prompt of all."""
    chat = isinstance(task, PromptedConfig) and task.chat
    solved = (*(shots.of(item) if shots else ()), *item.history)
    return tuple(
        Prompt(item.preface, solved, question, item.separator, chat, task.document_start) for question in item.questions
    )


class _Scores:
    """Sums over outcomes that are added some at a time; as large as the number of groups."""

    def __init__(self, kind: Kind, task: BenchmarkConfig, contaminated: Collection[str] | None) -> None:
        self._kind, self._contaminated = kind, contaminated
        self._task = task
        self._ratios: defaultdict[str, ClusterRatio] = defaultdict(ClusterRatio)
        self._resampled: dict[str, ResampledScore] = {}
        self._groups: set[str] = set()
        self._items = self._found = 0
        self._said = False

    def add(self, items: list[Item], outcomes: list[Outcome]) -> None:
        """Count some more items, in all their groups."""
        ratios: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        sums: defaultdict[str, list[Any]] = defaultdict(list)
        for item, outcome in zip(items, outcomes):
            groups = ["", *(f"/{group}" for group in (item.group, *outcome.groups) if group and self._known(group))]
            if self._contaminated is not None:
                found = item.id in self._contaminated
                self._found += found
                outcome.sample["contaminated"] = found
                groups += [] if found else [f"/{CLEAN}"]
            for group in groups:
                for name, pair in outcome.ratios.items():
                    ratios[name + group].append(pair)
                for name, numbers in outcome.sums.items():
                    sums[name + group].append(numbers)
        self._items += len(items)
        for name, pairs in ratios.items():
            self._ratios[name].add([pair[0] for pair in pairs], [pair[1] for pair in pairs])
        for name, rows in sums.items():
            if name not in self._resampled:
                self._resampled[name] = self._resampled_score(name.partition("/")[0])
            self._resampled[name].add(rows)

    def _resampled_score(self, name: str) -> ResampledScore:
        assert isinstance(self._task, GenerationTaskConfig), "only texts have scores of the whole set"
        return ResampledScore(self._kind.statistics[name], self._task.bootstrap, self._task.bootstrap_seed)

    def _known(self, group: str) -> bool:
        """Whether a group is told apart: the first MAX_GROUPS are."""
        if group not in self._groups and len(self._groups) < MAX_GROUPS:
            self._groups.add(group)
        if group not in self._groups and not self._said:
            self._said = True
            logger.warning(f"{self._task.name}: more than {MAX_GROUPS} groups; the others count among all only")
        return group in self._groups

    def metrics(self) -> dict[str, Metric]:
        """All figures by `<metric>` and `<metric>/<group>`."""
        found = {name: ratio.metric() for name, ratio in self._ratios.items()}
        found |= {name: score.metric() for name, score in self._resampled.items()}
        found = self._kind.finish(found)
        if self._contaminated is not None:
            found[CONTAMINATION] = Metric(self._found / max(self._items, 1), None, self._items)
        return found


def fields_of(task: EvaluationTask) -> tuple[str, ...]:
    """Fields of a record that a task reads, needed ones first."""
    kind = kind_of(task)
    return (*kind.fields, *kind.optional_fields)
