"""A target named on the command line -> its model, ready to go on with a text or to answer.

    recipe.yaml [key.path=value ...] -> its run's model        run folder, model folder -> the model in it

Invariant: nothing is trained or changed here; a run without a model says which command makes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from groundup import config
from groundup.errors import DataError, ModelFileError, RecipeError
from groundup.export import LoadedModel, load_model
from groundup.inference import GenerateConfig, Prediction, asked, check_threshold
from groundup.log import logger
from groundup.pipeline import Recipe, load_recipe, run_folder
from groundup.tokens import Example, ExampleReading, TaskSourceConfig

RECIPE_SUFFIXES = (".yaml", ".yml")
LINES_SUFFIXES = (".txt", "")
"""Files of a text a line; all others have records with fields."""
TASK_FOLDER = "task"
PREDICTED_AT_ONCE = 256
_OVERRIDE = re.compile(r"([a-z_]+)(\.[A-Za-z0-9_]+)*=.*", re.DOTALL)


def load_target(target: str, words: Sequence[str], *, of_task: bool = False) -> tuple[LoadedModel, list[str]]:
    """The model that `target` means, and those of `words` that are text.

    Behind a recipe, `key.path=value` is an override when `key` is a field of recipes; every other word is text.
    `of_task`: of a run with a task, the model of the task. Raises RecipeError or ModelFileError.
    """
    if Path(target).suffix not in RECIPE_SUFFIXES or Path(target).is_dir():
        return load_model(_of_task(Path(target)) if of_task else target), list(words)
    overrides = [word for word in words if _is_override(word)]
    recipe = load_recipe(target, overrides)
    folder = run_folder(recipe)
    if not (folder / "model").exists():
        raise ModelFileError(f"run '{recipe.name}' has no model yet; make it with: groundup run {target[-90:]}")
    if _changed(recipe, folder):
        logger.warning(f"the recipe changed since this model was made; bring it up to date: groundup run {target}")
    return load_model(_of_task(folder) if of_task else folder), [word for word in words if word not in overrides]


def _of_task(folder: Path) -> Path:
    """The model of a task beside the encoder that it was made from, where there is one."""
    beside = (folder / "model" / TASK_FOLDER, folder / TASK_FOLDER)
    return next((path for path in beside if (path / "config.json").is_file()), folder)


def predictions(
    model: LoadedModel, examples: Iterable[Example], threshold: float | None = None
) -> Iterator[tuple[Example, Prediction]]:
    """Each example with what the model says of it, some hundred computed together. Raises RecipeError."""
    check_threshold(model.labeller.config.task, threshold)
    given = iter(examples)
    while group := list(islice(given, PREDICTED_AT_ONCE)):
        yield from zip(group, model.predict_all(group, threshold))


def of_texts(model: LoadedModel, texts: Sequence[str], pair: str | None) -> list[Example]:
    """Texts as they are to be labelled, each with `pair`, if given."""
    task = model.labeller.config.task
    return [asked(task, text, pair, str(number)) for number, text in enumerate(texts, start=1)]


def of_file(model: LoadedModel, file: str, text_field: str, pair_field: str) -> Iterator[Example]:
    """The records of a file, or the lines of a .txt (of pairs a tab between); what is no record is said and left out.

    Raises RecipeError, or DataError when the file cannot be read or nothing in it is a record.
    """
    if Path(file).suffix in LINES_SUFFIXES:
        yield from of_lines(model, _lines_of(Path(file)), Path(file).name)
        return
    values = {"name": "file", "path": file, "text_field": text_field, "pair_field": pair_field, "label_field": ""}
    source = config.build(TaskSourceConfig, values, "options")
    task = model.labeller.config.task
    for example in ExampleReading(source, task, Path.cwd()):
        yield example if example.words or task != "token" else asked(task, example.text, None, example.id)


def of_lines(model: LoadedModel, lines: Iterable[str], name: str = "line") -> Iterator[Example]:
    """A text a line; where there is a tab, what stands behind it is the second text. Empty lines are passed over."""
    for number, line in enumerate(lines, start=1):
        text, tab, pair = line.strip("\r\n").partition("\t")
        if text.strip():
            yield asked(model.labeller.config.task, text, pair if tab else None, f"{name}:{number}")


def _lines_of(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8", newline="\n") as handle:
            yield from handle
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}; convert it, or give a .csv or .jsonl file") from None


def _is_override(word: str) -> bool:
    found = _OVERRIDE.fullmatch(word)
    return found is not None and found[1] in config.fields(Recipe)


def _changed(recipe: Recipe, folder: Path) -> bool:
    """True when the recipe asks for another model than the one that its run has."""
    try:
        made = config.parse_yaml((folder / "recipe.yaml").read_text(encoding="utf-8"), "recipe.yaml")
    except (OSError, UnicodeDecodeError, RecipeError):
        return False
    wanted = json.loads(json.dumps(config.to_dict(recipe)))
    return isinstance(made, dict) and {**made, "runtime": None} != {**wanted, "runtime": None}


def generation(options: Mapping[str, Any]) -> GenerateConfig:
    """How to choose tokens, from the options given (None: not given). Raises one RecipeError for all faults."""
    given = {name: options[name] for name in GenerateConfig.model_fields if options.get(name) is not None}
    return config.build(GenerateConfig, given, "options")
