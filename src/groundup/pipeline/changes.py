"""What changed between two attempts at a phase of training: half-done work is not thrown away silently.

    runs/<name>/unfinished.json    {stage: fingerprint} of phases that were begun and are not done
    fingerprint now another one    -> refused, with every field that differs: of the recipe, the data, the versions
    tokens or examples damaged     -> refused, with the file, before anything trains on them

Invariant: a phase with saved work of other values under the same run's name is never begun anew unasked. The file is a
guard only: without it nothing is lost, since stages lie under their fingerprints.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from groundup import config, stage
from groundup.errors import DataError, GroundupError, ModelFileError, RecipeError
from groundup.log import dispensable, logger
from groundup.train import checkpoint
from groundup.train.phase import CHECKPOINTS

UNFINISHED = "unfinished.json"
CODE = ("groundup", "torch")
"""What another version of may change the bits of a result."""


def state_identity(wanted: stage.Stage | None) -> dict[str, Any]:
    """What the checkpoints of a stage are a state of: its part of the recipe, the stages it reads, the versions."""
    if wanted is None:
        return {}
    versions = {name: version for name, version in stage.versions().items() if name in CODE}
    return {wanted.name: dict(wanted.identity), "inputs": dict(wanted.inputs), "versions": versions}


def refuse_changed(run_folder: Path, wanted: stage.Stage, root: Path) -> None:
    """Raise RecipeError, naming all that differs, where this run has saved work at another such stage; else note it."""
    begun = _unfinished(run_folder)
    earlier = begun.get(wanted.name)
    if isinstance(earlier, str) and earlier != wanted.fingerprint:
        folder = wanted.folder(root).with_name(f"{Path(earlier).name}.partial") / CHECKPOINTS
        found = checkpoint.newest_identity(folder)
        if found is not None:
            fields = _differences(found, wanted, root)
            shown = "; ".join(fields)[:90] or "its identity"
            raise RecipeError(
                f"{wanted.name} was begun with other values ({shown}); restore them, or give another"
                " name=... to begin anew",
                details=[*fields, f"the work that is saved: {folder}"],
            )
    _note(run_folder, {**begun, wanted.name: wanted.fingerprint})


def forget(run_folder: Path, name: str) -> None:
    """A stage is done: nothing of it can be lost any more."""
    begun = _unfinished(run_folder)
    if begun.pop(name, None) is not None:
        _note(run_folder, begun)


def require_intact(inputs: Iterable[stage.Finished]) -> None:
    """Re-hash what a stage is to be made from. Raises DataError, or ModelFileError of weights, naming the file.

    A damaged log is only warned of: nothing is made from it, and a training is not to be done again for it.
    """
    for found in inputs:
        _, faults = stage.verify(found.path)
        logs = [fault for fault in faults if fault.startswith(f"{stage.LOGS}/")]
        for fault in logs:
            logger.warning(f"{found.path.parent.name}/{found.path.name}: {fault}; going on, since it is a log")
        faults = [fault for fault in faults if fault not in logs]
        if not faults:
            continue
        where = f"{found.path.parent.name}/{found.path.name}: {faults[0][:80]}"
        if all(fault.endswith(stage.FOREIGN) for fault in faults):
            raise DataError(f"{where}; move it elsewhere, nothing of ours is damaged", details=faults)
        if (found.path / CHECKPOINTS).is_dir():
            raise ModelFileError(f"{where}; restore it, or delete that folder to train again", details=faults)
        raise DataError(f"{where}; delete that folder, and the same command makes it again", details=faults)


def _note(run_folder: Path, begun: Mapping[str, Any]) -> None:
    with dispensable(run_folder / UNFINISHED):
        stage.write_json(run_folder / UNFINISHED, begun)


def _unfinished(run_folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((run_folder / UNFINISHED).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _differences(before: Mapping[str, Any], wanted: stage.Stage, root: Path) -> list[str]:
    now = json.loads(json.dumps(state_identity(wanted)))
    own = {name: value for name, value in before.items() if name != "inputs"}
    found = config.differences(own, {name: value for name, value in now.items() if name != "inputs"})
    old, new = before.get("inputs"), now["inputs"]
    return [*found, *(_of_inputs(old, new, root) if isinstance(old, dict) else [])]


def _of_inputs(before: Mapping[str, str], now: Mapping[str, str], root: Path) -> list[str]:
    """What differs in the stages that were read, down to those whose own values differ."""
    found: list[str] = []
    for name in {**before, **now}:
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        earlier, later = (_manifest(root / "stages" / name / str(each)) for each in (old, new))
        inner = config.differences({name: earlier.get("identity")}, {name: later.get("identity")})
        inner += _of_inputs(earlier.get("inputs") or {}, later.get("inputs") or {}, root)
        found += inner or [f"{name}: {old}, now {new}"]
    return list(dict.fromkeys(found))


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        return stage.read_manifest(folder)
    except GroundupError:
        return {}
