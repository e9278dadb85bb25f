"""What is rendered is taken by those it is for: bash, sbatch's options, the objects' schemas, Python; and it runs."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

import groundup
from groundup import cli
from groundup.deployment import TARGETS, Cluster, job_of, render
from groundup.errors import RecipeError
from groundup.pipeline import Recipe
from tests.deployment import trainjob
from tests.end_to_end import tiny

LAYOUTS: dict[str, dict[str, Any]] = {
    "one machine": {"devices": 2, "device": "cpu", "threads": 4},
    "machines": {"devices": 2, "nodes": 4, "parallel": {"tensor": 2, "shard": 2}},
    "fewer go on": {"devices": 1, "nodes": 2, "min_nodes": 1, "restarts": 7},
}
SBATCH = {
    "job-name": r"[a-z][a-z0-9-]*",
    "nodes": r"\d+(-\d+)?",
    "ntasks-per-node": r"\d+",
    "gpus-per-node": r"\d+",
    "cpus-per-task": r"\d+",
    "exclusive": None,
    "mem": r"0|\d+[MG]",
    "time": r"(\d+-)?\d+:\d\d:\d\d",
    "partition": r"\w+",
    "account": r"\w+",
    "signal": r"B:(USR1|TERM)@\d+",
    "requeue": None,
    "open-mode": r"append|truncate",
    "output": r"\S+",
    "chdir": r"\S+",
    "no-kill": None,
}
"""Options of sbatch that are used, with the form of their values (None: they have none), from its manual page."""


def recipe_of(folder: Path, layout: str) -> tuple[Recipe, Path]:
    runtime = {**tiny.RUNTIME, "workdir": str(folder / "work"), **LAYOUTS[layout]}
    path = tiny.write_recipe(folder, name="My.run_7", runtime=runtime)
    return groundup.load_recipe(path, ["seed=3"]), path


def rendered(folder: Path, target: str, layout: str, cluster: Cluster | None = None) -> str:
    recipe, path = recipe_of(folder, layout)
    return render(target, job_of(recipe, "pretrain", str(path), ["seed=3"]), cluster or Cluster())


def sbatch_options(script: str) -> dict[str, str | None]:
    """As sbatch reads them: lines that begin so, up to the first command."""
    found: dict[str, str | None] = {}
    for line in script.splitlines()[1:]:
        if line and not line.startswith("#"):
            break
        if line.startswith("#SBATCH "):
            (word,) = shlex.split(line.removeprefix("#SBATCH "))
            name, equals, value = word.removeprefix("--").partition("=")
            found[name] = value if equals else None
    return found


def check_bash(script: str) -> None:
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sbatch_scripts_are_bash_with_options_that_sbatch_knows(tmp_path: Path, layout: str) -> None:
    script = rendered(tmp_path, "slurm", layout, Cluster(partition="gpu", account="lab"))
    check_bash(script)
    options = sbatch_options(script)
    for name, value in options.items():
        assert name in SBATCH, f"sbatch has no option --{name}"
        form = SBATCH[name]
        assert (value is None) if form is None else re.fullmatch(form, value or ""), (name, value)
    given = LAYOUTS[layout]
    fewest = given.get("min_nodes", 0)
    assert options["nodes"] == (f"{fewest}-{given['nodes']}" if fewest else str(given.get("nodes", 1)))
    assert options["ntasks-per-node"] == "1" and options["job-name"] == "my-run-7"
    assert options.get("gpus-per-node") == (None if given.get("device") == "cpu" else str(given["devices"]))
    assert ("runtime.rendezvous" in script) == ("nodes" in given)
    assert ("no-kill" in options) == bool(fewest)
    assert "seed=3" in script and str(tmp_path / "tiny.yaml") in script and "HF_HUB_OFFLINE=1" in script


@pytest.mark.parametrize("layout", LAYOUTS)
def test_kubernetes_objects_fit_their_schemas(tmp_path: Path, layout: str) -> None:
    text = rendered(tmp_path, "kubernetes", layout, Cluster(image="registry.example/groundup:1", claim="disk"))
    objects = list(yaml.safe_load_all(text))
    assert [each["kind"] for each in objects] == ["ConfigMap", "TrainingRuntime", "TrainJob"]
    for each in objects:
        jsonschema.validate(each, trainjob.SCHEMAS[each["kind"]])
    recipe, runtime, job = objects
    assert job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"] == recipe["metadata"]["name"] == "my-run-7"
    given = LAYOUTS[layout]
    trainer = job["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (given.get("nodes", 1), given["devices"])
    limits = trainer["resourcesPerNode"].get("limits")
    assert limits == (None if given.get("device") == "cpu" else {"nvidia.com/gpu": str(given["devices"])})
    (container,) = runtime["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"][
        "containers"
    ]
    check_bash(container["command"][2])
    assert ("$PET_MASTER_ADDR:$PET_MASTER_PORT" in container["command"][2]) == ("nodes" in given)
    inside = tmp_path / "inside.yaml"
    inside.write_text(recipe["data"]["recipe.yaml"])
    assert groundup.load_recipe(inside).seed == 3, "the recipe in the object is one"
    work = runtime["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert work["backoffLimit"] >= 100 * given.get("nodes", 1), (
        "weeks have many failures, each of which may end all pods"
    )
    mounted = {each["name"] for each in container["volumeMounts"]}
    pod = runtime["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert mounted == {each["name"] for each in pod["volumes"]}


def test_the_schemas_refuse_what_kubernetes_would(tmp_path: Path) -> None:
    _, runtime, job = yaml.safe_load_all(rendered(tmp_path, "kubernetes", "machines"))
    changes: list[tuple[dict[str, Any], Any]] = [
        (job, lambda each: each["spec"]["trainer"].update(numNodes="4")),
        (job, lambda each: each["spec"]["trainer"].update(nodes=4)),
        (job, lambda each: each["spec"].pop("runtimeRef")),
        (job, lambda each: each["metadata"].update(name="My run")),
        (runtime, lambda each: each["spec"].pop("template")),
    ]
    for found, change in changes:
        broken = yaml.safe_load(yaml.safe_dump(found))
        change(broken)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, trainjob.SCHEMAS[broken["kind"]])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ray_and_torchrun_scripts_can_be_read_by_what_runs_them(tmp_path: Path, layout: str) -> None:
    given = LAYOUTS[layout]
    job = rendered(tmp_path, "ray", layout)
    room: dict[str, Any] = {}
    code = compile(job, "job.py", "exec")
    assert "ray" in code.co_names
    for line in job.splitlines():
        if re.match(r"(NODES|BUNDLE|COMMAND|FOLDER) = ", line):
            name, _, value = line.partition(" = ")
            room[name] = yaml.safe_load(value) if name != "COMMAND" else value
    assert room["NODES"] == given.get("nodes", 1)
    assert room["BUNDLE"].get("GPU") == (None if given.get("device") == "cpu" else given["devices"])
    script = rendered(tmp_path, "torchrun", layout)
    check_bash(script)
    (line,) = [line for line in script.splitlines() if "torch.distributed.run" in line]
    fewest, nodes = given.get("min_nodes", 0), given.get("nodes", 1)
    assert f"--nnodes={f'{fewest}:{nodes}' if fewest else nodes} --nproc-per-node={given['devices']} " in line
    assert f"--max-restarts={given.get('restarts', 3)} " in script
    assert ("TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1" in script) == bool(fewest), "else no machine can come back"


def test_the_verb_writes_the_file_and_refuses_what_it_cannot_make(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, path = recipe_of(tmp_path, "machines")
    out = tmp_path / "job.sh"
    assert cli.main(["deploy", str(path), "--for", "slurm", "--output", str(out), "--time", "2-00:00:00"]) == 0
    assert capsys.readouterr().out.strip() == str(out) and "--time=2-00:00:00" in out.read_text()
    assert cli.main(["deploy", str(path), "runtime.nodes=2", "--for", "torchrun"]) == 0
    assert "--nnodes=2 " in capsys.readouterr().out
    for words, hint in (
        (["--for", "pbs"], "give --for slurm|kubernetes|ray|torchrun"),
        (["--for", "slurm", "--until", "chat"], "--until one of"),
        (["--for", "slurm", "--time", "soon"], "give [DAYS-]HH:MM:SS"),
        (["--for", "slurm", "--partition", "a b"], "give a plain name"),
        (["--for", "slurm", "runtime.min_nodes=5"], "min_nodes: 5 machines are more than nodes: 4"),
        (["--for", "slurm", "runtime.nodes=3", "runtime.min_nodes=1", "runtime.parallel={}"], "is no multiple of"),
    ):
        assert cli.main(["deploy", str(path), *words]) == 2
        assert hint in capsys.readouterr().err, words
    with pytest.raises(RecipeError, match="known are slurm"):
        render("pbs", job_of(groundup.load_recipe(path), "run", str(path), []), Cluster())
    assert TARGETS == ("slurm", "kubernetes", "ray", "torchrun")


STUBS = {
    "scontrol": '#!/bin/bash\nif [ "$1" = show ]; then echo localhost; else echo "$@" >> "$CALLS"; fi\n',
    "srun": '#!/bin/bash\necho "srun $*" >> "$CALLS"\nwhile [[ "$1" == --* ]]; do shift; done\nexec "$@"\n',
}


def run_script(folder: Path, body: str, sent: list[signal.Signals]) -> tuple[int, str]:
    """An sbatch script whose command is `body`, under a scheduler of two lines, that gets some signals."""
    script = rendered(folder, "slurm", "one machine")
    python = shlex.quote(sys.executable)
    command = next(line for line in script.splitlines() if line.strip().startswith(python))
    script = script.replace(command, f"  {python} -c {shlex.quote(body)} &")
    calls = folder / "calls"
    calls.touch()
    for name, text in STUBS.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    variables = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NODELIST": "a", "SLURM_CPUS_ON_NODE": "2", "CALLS": str(calls)}
    environment = {**os.environ, **variables, "PATH": f"{folder}:{os.environ['PATH']}"}
    with subprocess.Popen(["bash", "-c", script], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for number in sent:
            process.send_signal(number)
        try:
            process.wait(timeout=60)
        finally:
            process.kill()
    return process.returncode, calls.read_text()


@pytest.mark.parametrize(
    ("ending", "sent", "code", "requeued"),
    [
        ("time.sleep(0.3); sys.exit(75)", [signal.SIGUSR1], 75, True),
        ("time.sleep(0.3); sys.exit(75)", [signal.SIGTERM], 75, False),
        ("sys.exit(3)", [], 3, False),
    ],
)
def test_the_sbatch_script_passes_the_warning_on_and_queues_a_saved_run_again(
    tmp_path: Path, ending: str, sent: list[signal.Signals], code: int, requeued: bool
) -> None:
    # Blocked, the signal waits for `sigwait`, also when it comes right after the word.
    numbers = "{" + ", ".join(str(int(number)) for number in sent) + "}"
    waiting = f"signal.sigwait({numbers}); " if sent else ""
    blocked = "import signal, sys, time; signal.pthread_sigmask(0, {10, 15}); print('ready', flush=True); "
    found, calls = run_script(tmp_path, blocked + waiting + ending, sent)
    assert found == code
    assert ("requeue 4711" in calls) == requeued
    assert "--cpus-per-task=8" in calls
