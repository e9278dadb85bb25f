"""Damaged files: checkpoints (G3), what training reads (G4), wrong content under right hashes, junk."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.reliability.crash_points import toy_state
from benchmarks.reliability.runs import STEPS, Run, reseal, write_recipe
from benchmarks.reliability.tiers import Tier
from safetensors.torch import load_file, save_file

from groundup import stage
from groundup.tokens.shards import INDEX_FILE
from groundup.train import checkpoint

KINDS = ("truncate", "flip", "delete", "swap", "zero")


def damage(path: Path, kind: str, chance: random.Random) -> None:
    """Spoil one file."""
    content = bytearray(path.read_bytes())
    at = chance.randrange(len(content))
    if kind == "truncate":
        path.write_bytes(content[:at])
    elif kind == "flip":
        content[at] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
    elif kind == "delete":
        path.unlink()
    elif kind == "zero":
        path.write_bytes(content[:at] + b"\0" * len(content[at : at + 512]) + content[at + 512 :])
    else:
        other = path.with_name("optimizer.safetensors" if path.name == "model.safetensors" else "model.safetensors")
        path.write_bytes(other.read_bytes())


def corruption(tier: Tier, folder: Path) -> dict[str, Any]:
    """Damage to any file of the newest of two checkpoints, the manifest too."""
    state, chance = toy_state(), random.Random(2)
    for step in (1, 2):
        state.step = step
        checkpoint.save(folder / "clean", state, {"validation": {}, "skipped": 0}, keep=2)
    found = tried = 0
    silent = []
    while tried < tier.corruptions:
        shutil.rmtree(folder / "spoilt", ignore_errors=True)
        shutil.copytree(folder / "clean", folder / "spoilt")
        newest = folder / "spoilt" / "step-00000002"
        victim, kind = chance.choice(sorted(newest.iterdir())), KINDS[tried % len(KINDS)]
        before = victim.read_bytes()
        damage(victim, kind, chance)
        if victim.exists() and victim.read_bytes() == before:
            continue  # zeros over zeros
        tried += 1
        named: list[str] = []
        checkpoint.resume(folder / "spoilt", state, True, lambda path, fault: named.append(fault))  # noqa: B023
        # A manifest that is gone makes the folder none of a checkpoint, which is warned of, not fallen back from.
        gone = victim.name == stage.MANIFEST and not victim.exists()
        good = state.step == 1 and (gone or bool(named))
        found += good
        silent += [] if good else [f"{kind} {victim.name}"]
    return {"tried": tried, "found": found, "silent": silent, "ok": found == tried}


def data(tier: Tier, folder: Path) -> dict[str, Any]:
    """A bit of any file that training reads is flipped between two attempts: refused before a step, with the file."""
    recipe = write_recipe(folder)
    run, chance = Run(recipe, folder / "half", "instruct"), random.Random(3)
    run.stopped_at(STEPS // 3, "instruct")
    read = ("shards", "conversations", "tokenizer", "pretrain")
    files = [
        path
        for name in read
        for path in sorted(run.stages()[name].rglob("*"))
        if path.is_file() and path.stat().st_size and "logs" not in path.parts and path.name != stage.MANIFEST
    ]
    found, silent = 0, []
    for number in range(tier.shards):
        shards = [path for path in files if path.suffix == ".bin"]
        victim = chance.choice(files if number % 2 else shards)
        content, steps = victim.read_bytes(), run.step("instruct")
        damage(victim, "flip", chance)
        child = run.start(None)
        code = child.wait()
        good = code in (3, 4) and victim.name in child.errors() and run.step("instruct") <= steps
        found += good
        silent += [] if good else [f"{victim.name}: {code} {child.said()}"]
        victim.write_bytes(content)
        if not good:
            shutil.rmtree(run.workdir)
            run.stopped_at(STEPS // 3, "instruct")
    return {"tried": tier.shards, "found": found, "silent": silent, "ok": found == tier.shards, **_cost(folder)}


def _cost(folder: Path) -> dict[str, Any]:
    """What hashing costs: seconds a gigabyte, of a stage with files in the page cache."""
    place = folder / "large"
    place.mkdir()
    for number in range(4):
        (place / f"tokens-{number:05d}.bin").write_bytes(np.random.default_rng(number).bytes(1 << 26))
    stage.seal(place, {"stage": "shards", "fingerprint": "", "summary": {}})
    began = time.monotonic()
    assert not stage.verify(place)[1]
    return {"hash_seconds_per_gigabyte": round((time.monotonic() - began) * 1e9 / (1 << 28), 2)}


def wrong_content(tier: Tier, folder: Path) -> dict[str, Any]:
    """What is wrong though its hashes are right: ids beyond the vocabulary (NU06), weights that are NaN (NU04)."""
    recipe = write_recipe(folder)
    run = Run(recipe, folder / "half")
    run.stopped_at(STEPS // 2)
    cases: dict[str, tuple[Callable[[Run], None], int, str]] = {
        "id_beyond_vocabulary": (_foreign_ids, 3, "outside the vocabulary"),
        "weights_not_finite": (_not_finite, 4, "NaN or infinity"),
        "another_format": (_other_format, 4, "no checkpoint is intact"),
        "all_spoilt": (_all_spoilt, 4, "no checkpoint is intact"),
    }
    found = {}
    for name, (act, expected, words) in cases.items():
        tried = run.copy(folder / name)
        steps = tried.step()
        act(tried)
        child = tried.start(None)
        code = child.wait()
        found[name] = code == expected and words in child.errors() and "Traceback" not in child.errors()
        found[name] = found[name] and (name == "id_beyond_vocabulary" or tried.step() <= steps)
    return {**found, "ok": all(found.values())}


def _foreign_ids(run: Run) -> None:
    """Ids that no token has, in a part of a shard, with a manifest that fits."""
    shards = run.stages()["shards"]
    shard = next(path for path in shards.rglob("tokens-00000.bin") if path.parent.parent.name == "train")
    ids = np.fromfile(shard, "<u2")
    ids[len(ids) // 4 :: 50] = 60000
    ids.tofile(shard)
    assert (shard.parent / INDEX_FILE).is_file()
    reseal(shards)


def _not_finite(run: Run) -> None:
    for newest in run.checkpoints():
        weights = load_file(newest / checkpoint.WEIGHTS)
        next(iter(weights.values())).view(-1)[0] = torch.nan
        save_file(weights, newest / checkpoint.WEIGHTS)
        reseal(newest)


def _other_format(run: Run) -> None:
    for each in run.checkpoints():
        path = each / stage.MANIFEST
        path.write_text(path.read_text().replace('"format": 1', '"format": 2'))


def _all_spoilt(run: Run) -> None:
    for each in run.checkpoints():
        damage(each / checkpoint.OPTIMIZER, "flip", random.Random(1))


def junk(tier: Tier, folder: Path) -> dict[str, Any]:
    """Junk among checkpoints, partial ones of steps to come, the newest damaged with one kept: the same weights."""
    recipe = write_recipe(folder)
    whole = Run(recipe, folder / "whole")
    whole.finish()
    weights = _result(whole)
    half = Run(recipe, folder / "half")
    half.stopped_at(STEPS // 2)
    found = {}
    for name, act in {"junk": _litter, "partial": _partial_of_steps_to_come, "damaged_newest": _damaged_newest}.items():
        tried = half.copy(folder / name)
        act(tried.checkpoints()[-1].parent)
        words = ("runtime.keep_checkpoints=1",) if name == "damaged_newest" else ()
        again = Run(recipe, tried.workdir, "pretrain", *words)
        if words:
            again.stopped_at(STEPS * 3 // 4)
            found["damaged_newest_kept_the_good_one"] = again.intact()
        child = again.finish()
        said = name == "damaged_newest" or "ignored, not complete checkpoints" in child.errors()
        found[name] = said and _result(again) == weights
    return {**found, "ok": all(found.values())}


def _result(run: Run) -> bytes:
    folder = run.stages()["pretrain"]
    return (folder / stage.read_manifest(folder)["summary"]["weights"]).read_bytes()


def _litter(folder: Path) -> None:
    for name in ("step-99999999", "step-abc", "step-00000040.partial-77"):
        (folder / name).mkdir()
    for name in (".nfs0000001", "core", "latest", "step-00000041", "step-00000042.partial-78"):
        (folder / name).write_bytes(b"")


def _partial_of_steps_to_come(folder: Path) -> None:
    for step in range(STEPS // 2, STEPS + 1):
        target = folder / checkpoint.folder_name(step)
        if not target.exists():
            target.mkdir()
            (target / checkpoint.WEIGHTS).write_bytes(b"half")


def _damaged_newest(folder: Path) -> None:
    newest = sorted(folder.glob("step-????????"))[-1]
    shutil.copytree(newest, folder / checkpoint.folder_name(STEPS - 1))
    damage(folder / checkpoint.folder_name(STEPS - 1) / checkpoint.WEIGHTS, "flip", random.Random(1))
