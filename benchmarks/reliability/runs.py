"""Small runs of every kind of model over the smoke data, in work folders of their own."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from benchmarks.reliability import children
from benchmarks.reliability.children import Child

from groundup import load_recipe, stage
from groundup.log import read_lines
from groundup.pipeline import status

ROOT = Path(__file__).resolve().parents[2]
SMOKE = ROOT / "recipes" / "smoke.yaml"
STEPS, STEP_MILLISECONDS, BATCH_TOKENS = 60, 10, 512
RUN_SECONDS_LIMIT = 900
PHASES = ("pretrain", "lambda", "instruct", "task")
_PHASE = {"tokens": STEPS * BATCH_TOKENS, "global_batch_tokens": BATCH_TOKENS, "precision": "fp32"}
_DECODER = {
    "kind": "decoder", "context_length": 64, "num_layers": 2, "hidden_size": 32, "num_heads": 2, "num_kv_heads": 1,
    "ffn_size": 64,
}  # fmt: skip
_ENCODER = {"kind": "encoder", "context_length": 32, "num_layers": 1, "hidden_size": 32, "num_heads": 2, "ffn_size": 64}
_LSTM = {"kind": "lstm", "context_length": 64, "num_layers": 2, "hidden_size": 32, "dropout": 0.1}
_SEARCH = {"kind": "auto", "grid": [0.5, 2.0], "folds": 2, "share": 0.2, "rows": 4, "bound": 10.0}
KINDS = {"encoder": "task", "lstm": "instruct", "decoder": "instruct"}
"""Kind of model -> the last stage that trains."""


def write_recipe(folder: Path, kind: str = "decoder", search: bool = False, **changes: Any) -> Path:
    """A recipe of this kind, whose data is the repository's."""
    folder.mkdir(parents=True, exist_ok=True)
    values = yaml.safe_load(SMOKE.read_text(encoding="utf-8"))
    text = ROOT / "data" / "smoke"
    values["corpus"]["sources"] = [{"name": "texts", "path": str(text / "text")}]
    values["tokenizer"] = {"vocab_size": 512}
    values["model"] = {"decoder": _DECODER, "encoder": _ENCODER, "lstm": _LSTM}[kind]
    values["pretrain"] = dict(_PHASE)
    values["instruct"] = {
        **values["instruct"],
        **_PHASE,
        "sources": [{"name": "questions", "path": str(text / "questions" / "train.jsonl")}],
        "heldout": [{"name": "questions", "path": str(text / "questions" / "heldout.jsonl")}],
        "lambda": _SEARCH if search else 1.0,
    }
    if kind == "lstm":
        values["pretrain"] |= {"order": "continuous", "average": {"decay": 0.9}}
    if kind == "encoder":
        rule = {"kind": "adamw", "learning_rate": 0.005}
        values["pretrain"] |= {"optimizer": rule, "masking": {"whole_words": True}}
        values["instruct"] = None
        values["task"] = {**_task(folder), **_PHASE, "optimizer": dict(rule)}
    values["runtime"] = {
        "workdir": str(folder / "work"), "threads": 1, "compile": "off", "kernels": "off", "test_faults": True,
        "checkpoint_every_seconds": 0.3, "validate_every_steps": 30, "validation_rows": 4,
    }  # fmt: skip
    for section, content in changes.items():
        values[section] = {**(values[section] or {}), **content}
    path = folder / f"{kind}.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


def _task(folder: Path) -> dict[str, Any]:
    draw, words = random.Random(3), ("river", "stone", "winter", "garden", "letter", "morning")
    for name, count in (("train", 200), ("dev", 40)):
        chosen = [[draw.choice(words) for _ in range(5)] for _ in range(count)]
        records = [{"text": " ".join(each), "label": "wet" if "river" in each else "dry"} for each in chosen]
        (folder / f"{name}-task.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in records))
    sources = [{"name": name, "path": str(folder / f"{name}-task.jsonl")} for name in ("train", "dev")]
    return {"kind": "sequence", "sources": sources[:1], "heldout": sources[1:]}


class Run:
    """A recipe in a work folder of its own."""

    def __init__(self, recipe: Path, workdir: Path, verb: str = "pretrain", *words: str) -> None:
        self.recipe, self.workdir, self.verb, self.words = recipe, workdir, verb, words

    @property
    def folder(self) -> Path:
        """The run's folder, for people."""
        return self.workdir / "runs" / "smoke"

    @property
    def arguments(self) -> list[str]:
        """What comes behind `groundup`."""
        return [self.verb, str(self.recipe), "-q", f"runtime.workdir={self.workdir}", *self.words]

    def start(
        self,
        faults: str | None = f"slow_step={STEP_MILLISECONDS}",
        before: Callable[[], None] | None = None,
        tracer: Sequence[str] = (),
        wait_at_gate: bool = False,
        **environment: str | None,
    ) -> Child:
        """The command in a forked child. Each step sleeps a little, so that moments are spread over them."""
        about = {"FAULT": faults, "TOKENIZERS_PARALLELISM": "false", **environment}
        said = self.recipe.parent / "said"
        return children.start(children.command(self.arguments), said, about, before, tracer, wait_at_gate)

    def start_program(self, faults: str = f"slow_step={STEP_MILLISECONDS}") -> subprocess.Popen[str]:
        """The command as people start it, in a group of its own."""
        environment = {**os.environ, "FAULT": faults, "GROUNDUP_ALLOCATOR": "none"}
        return subprocess.Popen(
            [sys.executable, "-m", "groundup", *self.arguments],
            env=environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, faults: str | None = None) -> Child:
        """Run it to its end, which must be well."""
        child = self.start(faults)
        assert child.wait(RUN_SECONDS_LIMIT) == 0, child.errors()
        return child

    def ranks(self, count: int, faults: str | None = None, *words: str) -> list[Child]:
        """The command in so many ranks, as torchrun starts them."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        about = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
        whole = Run(self.recipe, self.workdir, self.verb, *self.words, *words)
        return [
            whole.start(faults, **about, MASTER_PORT=str(port), RANK=str(rank), LOCAL_RANK=str(rank))
            for rank in range(count)
        ]

    def finish_ranks(self, count: int, faults: str | None = None, *words: str) -> list[Child]:
        """Run it to its end by ranks, or by one process, which must be well."""
        if count == 1:
            return [Run(self.recipe, self.workdir, self.verb, *self.words, *words).finish(faults)]
        found = self.ranks(count, faults, *words)
        for child in found:
            assert child.wait(RUN_SECONDS_LIMIT) == 0, child.errors()
        return found

    def stopped_at(self, step: int, phase: str = "pretrain", ranks: int = 1, *words: str) -> None:
        """Run it until so many steps are done, then ask it to stop."""
        slow = f"slow_step={STEP_MILLISECONDS}"
        given = Run(self.recipe, self.workdir, self.verb, *self.words, *words)
        started = given.ranks(ranks, slow) if ranks > 1 else [given.start(slow)]
        self.wait_for(started[0], step, phase)
        for child in started:
            child.kill(signal.SIGTERM)
        codes = [child.wait() for child in started]
        assert codes == [75] * ranks, (codes, started[0].errors())

    def lines(self, phase: str = "pretrain") -> list[dict[str, Any]]:
        """Lines of the steps of a phase."""
        found = read_lines(self.folder / "metrics.jsonl")
        return [line for line in found if "loss" in line and line.get("phase") == phase]

    def events(self, name: str) -> list[dict[str, Any]]:
        """Events of this name."""
        return [event for event in read_lines(self.folder / "events.jsonl") if event.get("event") == name]

    def step(self, phase: str = "pretrain") -> int:
        """The last step of a phase that has a line."""
        return max((int(line["step"]) for line in self.lines(phase)), default=0)

    def wait_for(self, process: Child | subprocess.Popen[str], step: int, phase: str = "pretrain") -> None:
        """Return once a step of a phase has a line, or the process is over."""
        while self.step(phase) < step and process.poll() is None:
            time.sleep(0.01)

    def copy(self, workdir: Path) -> Run:
        """The same in a copy of what is there."""
        shutil.copytree(self.workdir, workdir, symlinks=True)
        return Run(self.recipe, workdir, self.verb, *self.words)

    def stages(self) -> dict[str, Path]:
        """Finished stages by name."""
        entries = status(load_recipe(self.recipe, [f"runtime.workdir={self.workdir}", *self.words]))
        return {entry["name"]: Path(entry["folder"]) for entry in entries if entry["state"] == "done"}

    def hashes(self) -> dict[str, str]:
        """State hash of every finished stage, all of whose files must be whole."""
        found = {}
        for name, folder in self.stages().items():
            found[name], faults = stage.verify(folder)
            assert not faults, faults
        return found

    def differences(self, other: Run) -> list[str]:
        """Files of finished stages whose content is another one there, logs and manifests left out."""
        found = []
        for name, hashed in self.hashes().items():
            if hashed != other.hashes().get(name):
                one, two = (stage.read_manifest(run.stages()[name])["files"] for run in (self, other))
                found += [f"{name}/{path}" for path in sorted({*one, *two}) if one.get(path) != two.get(path)]
        return [path for path in found if stage.MANIFEST not in path and f"/{stage.LOGS}/" not in path]

    def checkpoints(self, name: str = "pretrain") -> list[Path]:
        """Checkpoints of a phase that is under way, oldest first."""
        return sorted((self.workdir / "stages" / name).glob("*.partial/checkpoints/step-????????"))

    def intact(self, name: str = "pretrain") -> bool:
        """Whether the newest checkpoint of a phase under way is whole."""
        found = self.checkpoints(name)
        return bool(found) and not stage.verify(found[-1])[1]


def reseal(folder: Path) -> None:
    """Give what lies in a stage's or a checkpoint's folder a manifest with right hashes."""
    manifest = stage.read_manifest(folder)
    stage.seal(folder, {key: value for key, value in manifest.items() if key not in ("format", "files", stage.DIGEST)})
