"""G5: what the machine refuses, in the middle of a run: its last checkpoint stays whole, the message names cause and
cure, and with the fault gone the same command ends with the bits of a run that never met it.

    half-done run, copied --resumed under the fault--> expected code and words --checkpoint whole?--> resumed without it
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.reliability import children
from benchmarks.reliability.children import Child
from benchmarks.reliability.runs import STEPS, Run, write_recipe
from benchmarks.reliability.tiers import Tier

from groundup.train import checkpoint


@dataclass(frozen=True)
class Fault:
    """What is done to an attempt, and what is expected of it."""

    attempt: Callable[[Run], Child]
    codes: tuple[int, ...]
    words: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


def resources(tier: Tier, folder: Path) -> dict[str, Any]:
    """Each kind of fault, on copies of one half-done run."""
    recipe = write_recipe(folder)
    whole = Run(recipe, folder / "whole")
    whole.finish()
    half = Run(recipe, folder / "half")
    half.stopped_at(STEPS // 2)
    found: dict[str, Any] = {}
    for name, fault in FAULTS.items():
        if tier.resources and name not in tier.resources:
            continue
        if why := children.why_not(*fault.needs):
            found[name] = f"skipped: {why}"
            continue
        found[name] = _tried(name, fault, half, whole)
    bad = {name: what for name, what in found.items() if what != "ok" and not str(what).startswith("skipped")}
    return {**found, "kinds": len(found), "ok": not bad}


def _tried(name: str, fault: Fault, half: Run, whole: Run) -> str:
    run = half.copy(half.workdir.with_name(name.replace(" ", "-")))
    child = fault.attempt(run)
    said = child.said()
    wrong = []
    if child.code not in fault.codes:
        wrong.append(f"code {child.code}")
    if not all(word in child.errors() for word in fault.words) or len(said) > 210 or "Traceback" in child.errors():
        wrong.append("words")
    if child.code and not run.intact():
        wrong.append("checkpoint")
    if run.checkpoints() and list(run.checkpoints()[0].parent.glob("*.partial-*")) and child.code != -9:
        wrong.append("left-overs")
    run.finish()
    if other := run.differences(whole):
        wrong.append(f"bits of {other}")
    shutil.rmtree(run.workdir, ignore_errors=True)
    return f"{', '.join(wrong)}: {said[:160]}" if wrong else "ok"


@contextmanager
def _on_small_disk(run: Run, more_bytes: int, inodes: int = 0) -> Iterator[None]:
    """Inside, the run lies on a disk with so much room left; its files come back afterwards."""
    there, kept = run.workdir, run.workdir.with_name("moved")
    there.rename(kept)
    size = sum(-(-path.stat().st_size // 4096) * 4096 for path in kept.rglob("*") if path.is_file())
    count = sum(1 for _ in kept.rglob("*"))
    with children.disk(there, size + more_bytes, count + 1 + inodes if inodes else 0):
        shutil.copytree(kept, there, symlinks=True, dirs_exist_ok=True)
        yield
        shutil.rmtree(kept)
        shutil.copytree(there, kept, symlinks=True)
    there.rmdir()
    kept.rename(there)


def _checkpoint_bytes(run: Run) -> int:
    return sum(path.stat().st_size for path in run.checkpoints()[-1].iterdir())


def _full_disk(run: Run) -> Child:
    """Room for the weights of another checkpoint, which is asked for at the start, not for all of it."""
    with _on_small_disk(run, int(0.7 * _checkpoint_bytes(run))):
        return _ended(run.start())


def _full_in_mid_write(run: Run) -> Child:
    """Every write of the second checkpoint's model file and after it fails."""
    options = ("-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:error=ENOSPC:when=6+")
    return _ended(run.start(tracer=options))


def _inodes(run: Run) -> Child:
    with _on_small_disk(run, 64 << 20, inodes=12):
        return _ended(run.start())


def _file_size(run: Run) -> Child:
    largest = (run.checkpoints()[-1] / checkpoint.OPTIMIZER).stat().st_size
    return _ended(run.start(before=lambda: children.limit(resource.RLIMIT_FSIZE, largest // 2)))


def _read_only(run: Run) -> Child:
    with children.read_only(run.workdir):
        child = _ended(run.start())
    assert time.monotonic() - child.began < 5, "refused at once"
    return child


def _failing_disk(run: Run) -> Child:
    options = ("-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=6+")
    return _ended(run.start(tracer=options))


def _one_failure(run: Run) -> Child:
    """The sixth of each thread: of each that writes a checkpoint, and of the one that ends the stage."""
    options = ("-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=6")
    return _ended(run.start(tracer=options))


def _failing_close(run: Run) -> Child:
    options = ("-o", "/dev/null", "-e", "trace=close", "-e", "inject=close:error=EIO:when=400")
    return _ended(run.start(tracer=options))


def _unreadable_shard(run: Run) -> Child:
    options = ("-o", "/dev/null", "-e", "trace=pread64", "-e", "inject=pread64:error=EIO:when=40+")
    return _ended(run.start(tracer=options))


def _few_files(run: Run) -> Child:
    return _ended(run.start(before=lambda: children.limit(resource.RLIMIT_NOFILE, 64)))


def _no_files(run: Run) -> Child:
    return _ended(run.start(before=lambda: children.limit(resource.RLIMIT_NOFILE, 8)))


def _no_threads(run: Run) -> Child:
    with children.control_group("pids", pids__max=1) as enter:
        return _ended(run.start(before=enter))


def _few_threads(run: Run) -> Child:
    with children.control_group("pids", pids__max=20) as enter:
        return _ended(run.start(before=enter))


def _little_memory(run: Run) -> Child:
    return _ended(run.start(before=lambda: children.address_space(48 << 20)))


def _memory_group(run: Run) -> Child:
    with children.control_group("memory", memory__limit_in_bytes=24 << 20) as enter:
        return _ended(run.start(before=enter))


def _small_shared_memory(run: Run) -> Child:
    return _ended(run.start(before=children.small_shared_memory))


def _nobody(run: Run) -> Child:
    subprocess.run(["chown", "-R", "65534:65534", str(run.workdir)], check=True)
    for parent in run.workdir.parents[:3]:
        parent.chmod(0o755)
    return _ended(run.start(before=children.nobody, HOME=None, TMPDIR="/does/not/exist"))


def _full_logs(run: Run) -> Child:
    """The folder of the run, with its lines of metrics, is on a disk of its own that is full from the start."""
    there, kept = run.workdir / "runs", run.workdir / "kept"
    there.rename(kept)
    with children.disk(there, 256 << 10):
        shutil.copytree(kept, there, symlinks=True, dirs_exist_ok=True)
        with (there / "filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(b"x" * 4096)
            except OSError:
                pass
        child = _ended(run.start())
    there.rmdir()
    kept.rename(there)
    warned = [line for line in child.errors().split("\n") if "going on without what is written there" in line]
    folders = {line.split(": ")[0].rpartition("/")[0] for line in warned}
    assert warned and len(warned) == len(folders), f"once for each folder, {warned}"
    return child


def _ended(child: Child) -> Child:
    child.wait()
    return child


CURE = "the same command goes on"
FAULTS = {
    "no room": Fault(_full_disk, (6,), ("a checkpoint needs", "MB are free", "free some space"), ("mount",)),
    "full while writing": Fault(_full_in_mid_write, (6,), ("no space left on the disk", CURE), ("strace",)),
    "inodes": Fault(_inodes, (6,), ("inodes", "delete "), ("mount",)),
    "file size": Fault(_file_size, (6,), ("file size limit reached", "ulimit -f", CURE)),
    "read-only": Fault(_read_only, (6,), ("read-only", "writable folder"), ("mount",)),
    "failing disk": Fault(_failing_disk, (6,), ("input/output error", "may be failing", CURE), ("strace",)),
    "one failed fsync": Fault(_one_failure, (0, 6), ("writing it anew",), ("strace",)),
    "one failed close": Fault(_failing_close, (3,), ("cannot be read from byte",), ("strace",)),
    "unreadable shard": Fault(_unreadable_shard, (3,), ("cannot be read from byte", "mend the disk"), ("strace",)),
    "64 files": Fault(_few_files, (0,)),
    "8 files": Fault(_no_files, (6,), ("too many open files", "ulimit -n")),
    "threads": Fault(_no_threads, (6,), ("no further process or thread may start", "ulimit -u"), ("cgroup",)),
    "20 threads": Fault(_few_threads, (0,), (), ("cgroup",)),
    "address space": Fault(_little_memory, (0, 6), ()),
    "memory group": Fault(_memory_group, (0, -9), (), ("cgroup",)),
    "shared memory": Fault(_small_shared_memory, (0,), (), ("mount",)),
    "nobody, no home, no network": Fault(_nobody, (0,), (), ("mount",)),
    "full logs": Fault(_full_logs, (0,), ("going on without",), ("mount",)),
}
