"""A target named on the command line -> one side of a comparison: its model, name and the figures of its run.

    recipe.yaml -> its run          run folder, model folder -> what is there

Invariant: nothing is trained or changed; of a model without a run there are no figures and no held-out questions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from groundup.compare.comparison import Side
from groundup.compare.prompts import Prompt, held_out, read_prompts
from groundup.pipeline import load_recipe, run_folder
from groundup.talk import RECIPE_SUFFIXES, load_target

EVALUATION = Path("stages") / "evaluate" / "evaluation.json"


def side(target: str) -> Side:
    """Load one of the two. Raises RecipeError or ModelFileError."""
    model, _ = load_target(target, [])
    return Side(target, model, _figures(folder_of(target)))


def folder_of(target: str) -> Path:
    """The folder of a recipe's run, or the target itself."""
    path = Path(target)
    return run_folder(load_recipe(path)) if path.suffix in RECIPE_SUFFIXES and not path.is_dir() else path


def prompts_for(file: str | None, target: str) -> list[Prompt]:
    """The prompts of a file, or without one the held-out questions of the first target's run."""
    return read_prompts(file) if file is not None else held_out(folder_of(target))


def _figures(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / EVALUATION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
