"""The battery of faults, with numbers; docs/reliability.md from it.

    python -m benchmarks.reliability [--tier quick|nightly] [--only kills,stops] [--minutes 6] [--dry]    (make soak)

    kills       SIGKILL at random moments, every kind of model, prepare to the last phase -> state hashes (G1)
    crash       SIGKILL at every system call of a save, one rank and two, by strace (G2)
    corruption  newest checkpoint truncated, flipped, deleted, swapped, zeroed -> found, the one before used (G3)
    data        a bit of a shard, of rows, of the tokenizer, of the weights flipped -> refused before it trains (G4)
    content     right hashes over wrong content: ids beyond the vocabulary, NaN; another format; all spoilt
    junk        left-overs and foreign files among checkpoints; the newest damaged with one kept
    resources   no space, inodes, file size, read-only, errors of the disk, files, threads, memory ... (G5)
    stops       SIGTERM, SIGUSR1 -> seconds to exit with its code and a saved state (G6); ctrl_c: once and twice
    recovery    SIGKILL -> seconds to the first new step, interpreter start included (G7)
    effective   a kill a minute -> share of the time that was steps which stayed (G8)
    cost        a checkpoint's time on the training's thread and its work on others, per minute (G9)
    lost, hang, layouts    two ranks: one killed (G10), one that hangs (G11), other numbers of them (G12)
    numbers     NaN, infinity, jumps, divergence, no memory; one rank and two (G13)
    locks       eight commands on one run at once -> one of them works (G14)
    changes     other values, other data -> refused with every field (G15)
    clock       the wall clock jumps by a year, forwards and back
    what is left behind by all of them: processes, shared memory, sockets, temporary folders (G28)

Most attempts are forked from this process (`children`), which has imported torch; stops, recovery, ctrl_c and effective
start the command as people do. Needs root for the faults that need mounts and control groups; without, they are skipped
by name. Each figure is written to the table of docs/reliability.md as soon as it is measured, unless --dry.
Ends with 1 when a figure is not as it should be.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from benchmarks.reliability import crash_points, damage, guards, kills, ranks, resources
from benchmarks.reliability.tiers import TIERS, Tier

from groundup import stage
from groundup.log import ERRORS_ONLY, configure
from groundup.train.meter import measured_peak_flops

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- last results -->", "<!-- end of last results -->"
Part = Callable[[Tier, Path], dict[str, Any]]
PARTS: dict[str, tuple[Part, str, str]] = {
    "kills": (kills.kills, "G1", "random SIGKILLs, final states to the bit"),
    "crash": (crash_points.crash_points, "G2", "killed at every system call of one save"),
    "corruption": (damage.corruption, "G3", "damaged checkpoints found, the one before used"),
    "data": (damage.data, "G4", "flipped bits of what training reads, refused before a step"),
    "content": (damage.wrong_content, "NU04, NU06, CK06, CK13", "wrong content under right hashes; nothing whole left"),
    "junk": (damage.junk, "CK08-CK10", "junk and partial folders among checkpoints, same weights"),
    "resources": (resources.resources, "G5, RS07", "what the machine refuses: named, same bits after"),
    "stops": (kills.stops, "G6", "SIGTERM or SIGUSR1 to saved and gone, at most 15 s"),
    "ctrl_c": (kills.ctrl_c, "TR09", "Ctrl-C once and twice, no orphans"),
    "recovery": (kills.recovery, "G7", "SIGKILL to the first new step, at most 15 s"),
    "effective": (kills.effective, "G8", "effective training time at a kill a minute, at least 85% (70% with starts)"),
    "cost": (guards.cost, "G9", "a checkpoint a minute, at most 2% of the time"),
    "lost": (ranks.lost, "G10", "a rank lost: all stop within 30 s, same bits after"),
    "hang": (ranks.hang, "G11", "a rank hangs: named with stacks within time-out + 10 s"),
    "layouts": (ranks.layouts, "G12", "other numbers of ranks between attempts: same samples, losses within 1e-4"),
    "numbers": (guards.numbers, "G13", "NaN, infinity, jumps, divergence: counted, finite end"),
    "locks": (guards.locks, "G14", "eight commands at once, one works"),
    "changes": (guards.changes, "G15", "changed values refused with every field"),
    "clock": (kills.clock, "TM01", "the wall clock jumps by a year"),
}


def row(figure: str, what: str, shown: str, about: str) -> str:
    """A line of the table."""
    return f"| {figure} | {what} | {shown} | {about} |"


def described(figures: Any) -> str:
    """Figures in words."""
    if isinstance(figures, dict | list) and not figures:
        return "none"
    if isinstance(figures, dict):
        return ", ".join(f"{key.replace('_', ' ')} {described(value)}" for key, value in figures.items() if key != "ok")
    if isinstance(figures, list):
        return "; ".join(map(str, figures))
    return {True: "yes", False: "no"}.get(figures, str(figures)) if isinstance(figures, bool) else str(figures)


def record(line: str) -> None:
    """Put a line into the page's table, in place of the one of the same figure."""
    page = PAGE.read_text(encoding="utf-8")
    table = page[page.index(BEGIN) + len(BEGIN) : page.index(END)]
    begin = line[: line.index("|", 2) + 1]
    rows = [line if each.startswith(begin) else each for each in table.strip("\n").split("\n")]
    if line not in rows:
        rows.append(line)
    stage.write_text(PAGE, page.replace(table, "\n" + "\n".join(rows) + "\n"))


def left_behind(scratch: Path, temporary: Path, shared_before: set[str]) -> list[str]:
    """What is still there of the battery's runs: processes, sockets, shared memory, temporary files."""
    found = [f"shared memory {name}" for name in set(os.listdir("/dev/shm")) - shared_before if "torch" in name]
    found += [f"temporary {path.name}" for path in temporary.iterdir()]
    found += [f"socket {path.name}" for path in scratch.rglob("*") if path.is_socket()]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            about = (process / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if int(process.name) != os.getpid() and f"TMPDIR={temporary}" in about and "strace" not in words and words:
            found.append(f"process {words[:60]}")
    return sorted(found)


def main() -> int:
    """Run the parts asked for and write what they gave."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tier", choices=sorted(TIERS), default="quick")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--minutes", type=float, help="of `effective`")
    parser.add_argument("--dry", action="store_true", help="leave the page as it is")
    options = parser.parse_args()
    tier = TIERS[options.tier]
    tier = tier if options.minutes is None else replace(tier, minutes=options.minutes)
    torch.set_num_threads(1)
    configure(ERRORS_ONLY)
    # Once, for all the children: what a step imports, and the speed of this machine.
    crash_points.toy_state()
    measured_peak_flops(torch.device("cpu"), torch.float32)
    good, left, shared = True, [], set(os.listdir("/dev/shm"))
    began_all = time.monotonic()
    for name in options.only.split(","):
        if name == "effective" and not tier.minutes:
            continue
        part, figure, what = PARTS[name]
        with tempfile.TemporaryDirectory(prefix="battery-") as place:
            scratch, temporary = Path(place, "runs"), Path(place, "temporary")
            scratch.mkdir()
            temporary.mkdir(mode=0o777)
            os.chmod(place, 0o755)
            os.environ["TMPDIR"] = str(temporary)
            began, used = time.monotonic(), _processor_seconds()
            figures = part(tier, scratch)
            seconds, used = time.monotonic() - began, _processor_seconds() - used
            left += left_behind(scratch, temporary, shared)
            del os.environ["TMPDIR"]
        good = good and bool(figures["ok"])
        mark = "" if figures["ok"] else "**not reached**: "
        shown = mark + described(figures).replace("|", "/")
        print(name, json.dumps(figures), f"{seconds:.0f} s, {used:.0f} s of processors", flush=True)
        if not options.dry:
            record(row(figure, what, shown, f"{options.tier}, {time.strftime('%Y-%m-%d')}, {seconds:.0f} s"))
    total = f"{time.monotonic() - began_all:.0f} s"
    about = f"{options.tier}, {time.strftime('%Y-%m-%d')}, {total} in all"
    print("left behind", json.dumps(left), total, flush=True)
    if not options.dry:
        shown = f"{len(left)} after {options.only.count(',') + 1} parts" + (f": {'; '.join(left[:5])}" if left else "")
        record(row("G28", "left behind: processes, shared memory, sockets, temporary files", shown, about))
    return 0 if good and not left else 1


def _processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


if __name__ == "__main__":
    sys.exit(main())
