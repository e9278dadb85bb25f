"""`evaluate.tasks` of a recipe: what enters its fingerprint, and which of their items are in the training text.

    evaluate.tasks --task_sets--> sets that the contamination stage looks for (they are only reported, never dropped)
    contamination stage --contaminated--> task -> ids of the items found

Invariant: a task changes no stage that trains; without tasks nothing here changes anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from groundup import config, corpus, evaluate
from groundup.pipeline.context import Context
from groundup.pipeline.recipe import Recipe

_CONTAMINATION = "contamination"


def evaluate_identity(context: Context) -> Mapping[str, Any]:
    """The section, with the content of the tasks' files in place of their paths."""
    values = config.to_dict(context.recipe.evaluate)
    tasks = [evaluate.task_identity(task, Path.cwd()) for task in context.recipe.evaluate.tasks]
    return {**values, "tasks": tasks} if tasks else {key: value for key, value in values.items() if key != "tasks"}


def task_sets(recipe: Recipe) -> list[corpus.EvaluationSetConfig]:
    """The tasks as sets of texts that are looked for in the training text."""
    return [
        corpus.EvaluationSetConfig(
            name=set_name(task.name),
            path=task.path,
            fields=tuple(dict.fromkeys(name.partition(".")[0] for name in evaluate.fields_of(task))),
            action="report",
        )
        for task in recipe.evaluate.tasks
    ]


def set_name(task: str) -> str:
    """Name of a task's set in the report."""
    return f"task-{task}"[:64]


def contaminated(context: Context) -> dict[str, frozenset[str]]:
    """Task -> ids of its items of which a text is in the training text."""
    folder = context.folder(_CONTAMINATION)
    return {task.name: corpus.read_found(folder, set_name(task.name)) for task in context.recipe.evaluate.tasks}


def require_tasks(recipe: Recipe) -> None:
    """Raise, before any work is done, when a file that a task names or a library that it needs is not there."""
    for task in recipe.evaluate.tasks:
        evaluate.task_identity(task, Path.cwd())
        evaluate.kind_of(task)
