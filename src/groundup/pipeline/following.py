"""What all ranks but the first do: hear what is to be trained, train it together, and wait for the next word.

    {"recipe": ...}                       the first rank's recipe and versions: refused where ours are others
    {"train": stage, "work": folder}      the stage's own builder, in the folder that the first rank holds the lock of
    {"done": stage, "folder": folder}     a finished stage, for those that read it
    {"end": verb}                         all is done

Invariant: a rank that follows writes nothing but what all ranks write together.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from groundup import config, stage
from groundup.errors import RecipeError, ResourceError
from groundup.parallel import Ranks
from groundup.pipeline.context import Context
from groundup.pipeline.recipe import Recipe
from groundup.pipeline.stages import listed


def canonical(recipe: Recipe) -> dict[str, Any]:
    """What must be the same on all ranks: the recipe, and the versions that compute it."""
    return {**config.to_dict(recipe), "versions": stage.versions()}


def follow(context: Context) -> None:
    """Train with the first rank what it says, until it says that all is done. Raises RecipeError for another recipe."""
    ranks, kinds = context.ranks, {kind.name: kind for kind in listed(context.recipe)}
    assert ranks is not None, "there is a first rank to follow"
    while "end" not in (word := ranks.hear()):
        if "recipe" in word:
            _require_same(word["recipe"], json.loads(json.dumps(canonical(context.recipe))), ranks)
        elif "train" in word:
            kinds[word["train"]].build(context, Path(word["work"]))
        else:
            context.done[word["done"]] = _seen(Path(word["folder"]))


def _require_same(wanted: dict[str, Any], found: dict[str, Any], ranks: Ranks) -> None:
    own = f"rank {ranks.place.rank}"
    for key, value in wanted.items():
        if found.get(key) != value:
            raise RecipeError(
                f"{own}: '{key}' differs from that of rank 0; start all ranks with one recipe and the same versions",
                details=[f"rank 0: {str(value)[:300]}", f"{own}: {str(found.get(key))[:300]}"],
            )


def _seen(folder: Path) -> stage.Finished:
    """A stage that the first rank finished. Raises ResourceError where this machine does not see it."""
    if not folder.is_dir():
        raise ResourceError(f"{folder}: not there on this machine; set runtime.workdir to a folder that all share")
    return stage.Finished(folder, stage.read_manifest(folder))
