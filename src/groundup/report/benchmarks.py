"""Benchmarks of a run: a table of their figures, before and after tuning, and a few items with what the model chose.

Invariant: as in `data`, whatever the files hold gives a page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from groundup.report import words
from groundup.report.facts import LABELS, Facts, with_error
from groundup.report.plain import entries, mapping
from groundup.report.read import RunFiles
from groundup.report.words import number

ITEMS_SHOWN = 3
"""Items of each task."""
PROMPT_CHARACTERS = 1000
"""Of a prompt, its end: solved examples stand before it."""
GROUP_ROWS = 12
"""Figures of groups of a task; all are in evaluation.json."""


def names(run: RunFiles) -> frozenset[str]:
    """The tasks that were measured: what stands before the first slash of their figures."""
    return frozenset(str(name) for label in run.samples for name in _tasks(run, label))


def benchmarks(run: RunFiles, facts: Facts) -> list[dict[str, Any]]:
    """Each task: its figures in rows, contamination, signatures, account, and some items."""
    labels = sorted(facts.metrics, key=lambda label: (label != "base", label))
    last = next((label for label in ("instruct", "base") if _tasks(run, label)), "")
    return [
        {
            "name": name,
            "kind": str(mapping(task).get("kind", "")).replace("_", " "),
            "labels": [LABELS.get(label, words.name(label)) for label in labels],
            "rows": _rows(str(name), labels, facts),
            "about": _about(str(name), mapping(task), facts),
            "items": [_item(item) for item in _spread(entries(mapping(task).get("items")))],
        }
        for name, task in _tasks(run, last).items()
    ]


def _tasks(run: RunFiles, label: str) -> dict[str, Any]:
    return mapping(mapping(run.samples.get(label)).get("tasks"))


def _rows(task: str, labels: Sequence[str], facts: Facts) -> list[dict[str, Any]]:
    found = dict.fromkeys(name for label in labels for name in facts.metrics[label] if name.startswith(f"{task}/"))
    inner = [name for name in found if name != f"{task}/contamination"]
    plain = [name for name in inner if name.count("/") == 1]
    return [_row(name, labels, facts) for name in [*plain, *[n for n in inner if n not in plain][:GROUP_ROWS]]]


def _row(name: str, labels: Sequence[str], facts: Facts) -> dict[str, Any]:
    _, metric, *group = name.split("/", 2)
    found = [facts.metrics[label].get(name) for label in labels]
    known = [entry for entry in found if entry]
    return {
        "metric": words.name(metric),
        "group": "".join(group).replace("_", " "),
        "values": [with_error(metric, entry) if entry else words.MISSING for entry in found],
        "n": words.exact(known[-1].get("n")),
    }


def _about(name: str, task: Mapping[str, Any], facts: Facts) -> list[str]:
    """Sentences about a task."""
    account, found = mapping(task.get("records")), []
    rejected = sum(int(number(count) or 0) for count in mapping(account.get("rejected")).values())
    if rejected:
        found.append(f"{words.exact(rejected)} of {words.exact(account.get('total'))} records could not be asked.")
    entry = mapping(facts.final.get(f"{name}/contamination"))
    if entry:
        share = words.percent(entry.get("value"))
        found.append(f"Of {share} of the items a text is in the training text; “clean” are the others.")
    found += [f"{metric}: {signature}" for metric, signature in mapping(task.get("signatures")).items()]
    return found


def _spread(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    count = min(ITEMS_SHOWN, len(items))
    return [items[at * len(items) // count] for at in range(count)]


def _item(item: Mapping[str, Any]) -> dict[str, Any]:
    """One item: the end of its prompt, and a line for each option or text."""
    prompts = item.get("prompts")
    prompt = str(prompts[0]) if isinstance(prompts, list) and prompts else str(item.get("prompt", ""))
    nats, options = item.get("log_likelihoods"), item.get("options")
    lines = []
    if isinstance(nats, list) and isinstance(options, list):
        shown = options if len(options) == len(nats) else [*(prompts if isinstance(prompts, list) else ()), *options]
        right, chosen = item.get("reference"), item.get("choice")
        lines = [
            f"{'✓ ' if place == right else ''}{option}: {words.exact(value)}{', chosen' if place == chosen else ''}"
            for place, (option, value) in enumerate(zip(shown, nats))
        ]
    if "prediction" in item:
        references = item.get("references")
        expected = [str(text) for text in references] if isinstance(references, list) else []
        lines += [str(item["prediction"]) or "(nothing)", *(f"expected: {text}" for text in expected[:3])]
    return {"prompt": prompt[-PROMPT_CHARACTERS:], "lines": lines}
