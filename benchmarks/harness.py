"""Jobs -> processes of their own -> figures with their spread -> a JSON file and a table; and the peers' environment.

    job --one process per (tool, setting, repetition), interleaved--> one JSON line --summary--> results/NAME.json

Invariant: every tool gets the same allocator, threads, rows and clock; a run that fails is reported as failed, and what
other programs took of the machine meanwhile is recorded with every run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from groundup.launcher import ALLOCATOR_VARIABLE, ALLOCATORS, SPIN_COUNT, Start, planned_start

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PEERS_VENV = HERE / ".venv-peers"
TORCH = "torch~=2.13.0"
INSTALLS = (
    (TORCH, "numpy>=2,<3", "transformers>=5.16,<6", "accelerate>=1.10"),
    (TORCH, "numpy>=2,<3", "lightning>=2.6.1", "jsonargparse[signatures]>=4.37,<4.42", "psutil==7.2.2", "tqdm"),
    ("--no-deps", "litgpt==0.5.13"),
    (TORCH, "trl>=1.16,<2", "peft>=0.21,<0.22", "datasets>=5,<6"),
)
"""torch is named each time, or pip may take a build with CUDA. LitGPT asks for an older huggingface-hub than
transformers does, which its training does not need: hence without its dependencies."""
INDEX_PEERS, FOLDER_PEERS = ("transformers", "litgpt"), ("nanogpt", "nanochat")
LIMIT_SECONDS = 3 * 3600
QUIET_CORES = 0.15
"""Foreign load above which a run is marked as disturbed."""


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that all comparisons share."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--peer", action="append", default=[], metavar="NAME=FOLDER", help="nanogpt or nanochat")
    made.add_argument("--only", default="*", metavar="PATTERNS", help="rows to run, such as 'groundup*,litgpt*'")
    made.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    made.add_argument("--allocator", choices=ALLOCATORS, help="for all; without it what Groundup's launcher chooses")
    made.add_argument(
        "--plain-peers", action="store_true", help="peers as shipped: the C library's allocator and waiting"
    )
    made.add_argument("--name", help="results/NAME.json instead of the default name")
    return made


def peer_folders(options: argparse.Namespace) -> dict[str, str]:
    """NAME=FOLDER options -> folders. Raises SystemExit for an unknown name or a folder that is not there."""
    folders = {}
    for word in options.peer:
        name, _, folder = word.partition("=")
        if name not in FOLDER_PEERS or not Path(folder).is_dir():
            raise SystemExit(f"--peer {word}: give {' or '.join(FOLDER_PEERS)}, '=', and a folder that is there")
        folders[name] = str(Path(folder).resolve())
    return folders


def wanted(label: str, options: argparse.Namespace, folders: Mapping[str, str]) -> bool:
    """Whether a row (`tool: setting`) was asked for and can be run."""
    tool = label.partition(":")[0]
    available = tool not in FOLDER_PEERS or tool in folders
    return available and any(fnmatch(label, pattern.strip()) for pattern in options.only.split(","))


def peers_python(folder: Path = PEERS_VENV, installs: Sequence[Sequence[str]] = INSTALLS) -> str:
    """The interpreter of an environment of peers, which is made at the first call."""
    python, stamp = folder / "bin" / "python", folder / ".installed"
    asked = json.dumps(installs)
    if stamp.exists() and stamp.read_text() == asked:
        return str(python)
    print(f"making {folder} (once)", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    (folder / ".gitignore").write_text("*\n")
    for words in installs:
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words]
        subprocess.run(command, check=True)
    stamp.write_text(asked)
    return str(python)


def environment(tool: str, cache: Path, options: argparse.Namespace) -> dict[str, str]:
    """What a runner's process gets: the launcher's settings for all, and its compile caches in `cache`."""
    drop = ("LD_PRELOAD", "GOMP_SPINCOUNT", "OMP_NUM_THREADS", "PYTHONPATH")
    made = {name: value for name, value in os.environ.items() if name not in drop}
    made.update(
        PYTHONPATH=f"{HERE.parent}:{HERE.parent / 'src'}",
        HOME=str(cache),
        TORCHINDUCTOR_CACHE_DIR=str(cache / "inductor"),
        HF_HUB_OFFLINE="1",
        TOKENIZERS_PARALLELISM="false",
        OMP_NUM_THREADS=str(options.threads),
    )
    if options.plain_peers and tool not in ("groundup", "gemm"):
        return made
    made["GOMP_SPINCOUNT"] = SPIN_COUNT
    return {**made, **allocator(options).variables}


def allocator(options: argparse.Namespace) -> Start:
    """The start that Groundup's launcher plans here; all tools get the same."""
    os.environ.pop("LD_PRELOAD", None)
    if options.allocator:
        os.environ[ALLOCATOR_VARIABLE] = options.allocator
    return planned_start()


def run_job(
    tool: str,
    job: Mapping[str, Any],
    cache: Path,
    options: argparse.Namespace,
    folders: Mapping[str, str],
    module: str | None = None,
) -> dict[str, Any]:
    """The runner's JSON line with `foreign_cores` and `wall_seconds`; `{"failed": reason}` when there is none.

    `module`: the runner, where it is not called as the tool.
    """
    cache.mkdir(parents=True, exist_ok=True)
    python = peers_python() if tool in INDEX_PEERS + FOLDER_PEERS else sys.executable
    full = {**job, "threads": options.threads, "folder": folders.get(tool)}
    command = [python, "-m", f"benchmarks.runners.{module or tool}", json.dumps(full)]
    busy, own, started = busy_seconds(), own_seconds(), time.monotonic()
    try:
        done = subprocess.run(
            command,
            env=environment(tool, cache, options),
            cwd=HERE.parent,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"no end after {LIMIT_SECONDS} s"}
    wall = time.monotonic() - started
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1][:300]}
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    foreign = max(0.0, busy_seconds() - busy - (own_seconds() - own)) / wall
    return {**result, "wall_seconds": wall, "foreign_cores": round(foreign, 3)}


def busy_seconds() -> float:
    """Processor seconds that this machine has worked since its start, all programs together."""
    user, nice, system, _, _, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def own_seconds() -> float:
    """Processor seconds of this process and of its children that have ended."""
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


def machine(options: argparse.Namespace) -> dict[str, Any]:
    """Facts of the machine; no host name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "threads": options.threads,
        "memory_bytes": memory,
        "system": platform.platform(),
        "allocator": dict(allocator(options).variables) or "the C library's",
        "peers": "plain environment" if options.plain_peers else "same environment",
        "load_before": os.getloadavg()[0],
    }


def spread(values: Iterable[float | None]) -> dict[str, Any] | None:
    """Median, smallest, largest and number of the values that are there; None without any."""
    found = [value for value in values if value is not None]
    if not found:
        return None
    return {"median": statistics.median(found), "low": min(found), "high": max(found), "n": len(found)}


def ratios(ours: Sequence[float | None], theirs: Sequence[float | None]) -> dict[str, Any] | None:
    """Spread of ours / theirs, round by round: each pair ran close in time."""
    return spread(a / b for a, b in zip(ours, theirs) if a is not None and b)


def figures(runs: Sequence[Mapping[str, Any]], names: Iterable[str]) -> dict[str, Any]:
    """The spread of each named figure over the runs, and what failed or was disturbed."""
    good = [run for run in runs if "failed" not in run]
    made: dict[str, Any] = {name: spread(run.get(name) for run in good) for name in names}
    made["disturbed_runs"] = sum(run["foreign_cores"] > QUIET_CORES for run in good)
    made["foreign_cores"] = spread(run["foreign_cores"] for run in good)
    failures = [run["failed"] for run in runs if "failed" in run]
    return {**made, "failed": failures} if failures else made


def by_tool(rows: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{"tool: setting": x} -> {tool: {setting: x}}."""
    made: dict[str, dict[str, Any]] = {}
    for label, value in rows.items():
        tool, _, setting = label.partition(": ")
        made.setdefault(tool, {})[setting] = value
    return made


def shown(value: Mapping[str, Any] | None, form: str = ",.0f", scale: float = 1.0) -> str:
    """A spread as `median (low to high)`, or a dash."""
    if value is None:
        return "-"
    median, low, high = (format(value[name] * scale, form) for name in ("median", "low", "high"))
    return median if value["n"] == 1 else f"{median} ({low} to {high})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows as a Markdown table with aligned columns."""
    lines = [list(head), ["---"] * len(head), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join("| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths)) + " |" for line in lines)


def write(name: str, result: Mapping[str, Any]) -> Path:
    """Write results/NAME.json whole."""
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"{name}.json"
    with tempfile.NamedTemporaryFile("w", dir=RESULTS, suffix=".tmp", delete=False) as file:
        json.dump(result, file, indent=1)
    os.replace(file.name, target)
    return target


def save(name: str, result: Mapping[str, Any], text: str) -> None:
    """Write results/NAME.json whole, and print the table."""
    print(f"{text}\n\nwritten: {write(name, result)}")
