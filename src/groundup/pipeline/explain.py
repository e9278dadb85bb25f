"""What happened to one record of a recipe's corpus, whether it is prepared or not; nothing is built or changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from groundup import stage
from groundup.corpus import Explainer
from groundup.pipeline.context import Context
from groundup.pipeline.recipe import Recipe
from groundup.pipeline.run import run_folder, workdir
from groundup.pipeline.stages import heldout_sets, listed
from groundup.scratch import scratch_folder
from groundup.train.guards import StopRequest


def explain(recipe: Recipe, document_id: str) -> dict[str, Any]:
    """`Explainer.explain` for a recipe. Raises DataError when its sources have no such record."""
    context = Context(recipe, run_folder(recipe), StopRequest())
    root = workdir(recipe)
    wanted = next(kind for kind in listed(recipe) if kind.name == "corpus").stage(context)
    finished = stage.finished(wanted, root)
    place = root if root.is_dir() else None  # unpacked text may be too much for the system's temporary folder
    with scratch_folder("explain", place) as scratch:
        corpus = finished.path if finished else None
        explainer = Explainer(recipe.corpus, Path.cwd(), corpus, scratch, heldout_sets(context))
        return {"corpus": str(corpus) if corpus else None, **explainer.explain(document_id)}
