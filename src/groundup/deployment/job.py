"""What all schedulers need to know of a run, taken from its recipe, and what only the cluster's people know.

Invariant: the command that is started on each machine is the one that is started by hand: `groundup VERB RECIPE ...`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from groundup import config
from groundup.errors import RecipeError
from groundup.pipeline import Recipe

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
"""Machines of a cluster must not ask the network for what is to be on the shared disk."""
GRACE_SECONDS = 120
"""Time between the word that a job must end and its end: a step, a checkpoint, and the way out."""
_TIME = re.compile(r"(\d+-)?\d{1,2}:\d{2}:\d{2}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")


@dataclass(frozen=True)
class Cluster:
    """What a recipe does not say. Raises RecipeError for what no scheduler would take."""

    time: str = "24:00:00"
    """Longest time of one job, [DAYS-]HH:MM:SS (slurm)."""
    partition: str = ""
    """Queue (slurm)."""
    account: str = ""
    """Who pays (slurm)."""
    image: str = "groundup:latest"
    """Container image with Python and Groundup (kubernetes)."""
    claim: str = "groundup"
    """Volume claim, ReadWriteMany, for `runtime.workdir` and the data (kubernetes)."""
    namespace: str = "default"
    """Namespace (kubernetes)."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value, form = getattr(self, each.name), _TIME if each.name == "time" else _NAME
            if value and not form.fullmatch(value):
                wanted = "[DAYS-]HH:MM:SS" if each.name == "time" else "a plain name"
                raise RecipeError(f"--{each.name} {value[:60]!r}: give {wanted}")


@dataclass(frozen=True)
class Job:
    """One run on one or several machines."""

    name: str
    nodes: int
    min_nodes: int
    devices: int
    gpu: bool
    cpus: int
    """Cores that a machine's ranks use together; 0: all it has."""
    restarts: int
    command: tuple[str, ...]
    """What is started on each machine; where several meet, `runtime.rendezvous=HOST:PORT` is put behind it."""
    folder: str
    """Where the command is started, so that paths of the recipe lead where they do here."""
    recipe: Recipe

    @property
    def elastic(self) -> bool:
        """Whether fewer machines go on."""
        return self.min_nodes < self.nodes

    @property
    def label(self) -> str:
        """The name in the form that schedulers take: lower case, letters, digits and hyphens, a letter first."""
        plain = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")
        return (plain if plain[:1].isalpha() else f"run-{plain}")[:40].rstrip("-")


def job_of(recipe: Recipe, verb: str, path: str, overrides: Sequence[str]) -> Job:
    """The job of `groundup VERB PATH OVERRIDES` for a recipe that was loaded from these."""
    runtime = recipe.runtime
    workdir = f"runtime.workdir={Path(runtime.workdir).absolute()}"
    own = [word for word in overrides if not word.startswith(("runtime.workdir=", "runtime.rendezvous="))]
    return Job(
        name=recipe.name,
        nodes=runtime.nodes,
        min_nodes=runtime.fewest_nodes,
        devices=runtime.devices,
        gpu=runtime.device != "cpu",
        cpus=runtime.threads * runtime.devices,
        restarts=runtime.restarts,
        command=(sys.executable, "-m", "groundup", verb, str(Path(path).absolute()), *own, workdir),
        folder=str(Path.cwd()),
        recipe=recipe,
    )


def recipe_on(job: Job, runtime: Mapping[str, Any]) -> str:
    """The resolved recipe as YAML, with some values of `runtime` replaced."""
    changed = job.recipe.runtime.model_copy(update=dict(runtime))
    return config.to_yaml(job.recipe.model_copy(update={"runtime": changed}))
