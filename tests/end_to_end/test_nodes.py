"""Two machines as two network namespaces with a cable between them: the same losses as on one, and the cable is cut."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end import test_ranks as ranks
from tests.end_to_end.test_restarts import end, steps, wait_for

HOSTS = {"groundup-a": "10.83.7.1", "groundup-b": "10.83.7.2"}
PORT = 29571


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def why_not() -> str:
    """Why namespaces cannot be made here; empty where they can."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        return "network namespaces need root and iproute2"
    try:
        ip("netns", "add", "groundup-try")
        ip("netns", "delete", "groundup-try")
    except subprocess.CalledProcessError as error:
        return f"no network namespaces here: {error.stderr.strip()[:100]}"
    return ""


@pytest.fixture
def cable() -> Iterator[str]:
    """Two machines and a cable between them; its end at the first is what is pulled out."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    names, ends = list(HOSTS), ["veth-ga", "veth-gb"]
    try:
        for name in names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
            # Names are looked up in the machine's own files: what is outside cannot be asked.
            folder = Path("/etc/netns", name)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "hosts").write_text("127.0.0.1 localhost\n" + "".join(f"{a} {n}\n" for n, a in HOSTS.items()))
            (folder / "resolv.conf").write_text("")
            (folder / "nsswitch.conf").write_text("hosts: files\n")
        ip("link", "add", ends[0], "netns", names[0], "type", "veth", "peer", "name", ends[1], "netns", names[1])
        for name, link in zip(names, ends, strict=True):
            ip("-n", name, "address", "add", f"{HOSTS[name]}/24", "dev", link)
            ip("-n", name, "link", "set", link, "up")
        yield ends[0]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
            shutil.rmtree(Path("/etc/netns", name), ignore_errors=True)


def start(machine: str, recipe: Path, work: str, *words: str) -> subprocess.Popen[str]:
    given = ranks.command(recipe, work, "runtime.nodes=2", f"runtime.rendezvous=groundup-a:{PORT}", *words)
    inside = ["ip", "netns", "exec", machine, *given]
    return subprocess.Popen(inside, start_new_session=True, stderr=subprocess.PIPE, text=True)


def both(recipe: Path, work: str, *words: str) -> list[subprocess.Popen[str]]:
    ranks.command(recipe, work)  # makes the folder that both share
    return [start(machine, recipe, work, *words) for machine in HOSTS]


@pytest.mark.slow
def test_two_machines_do_what_two_ranks_do_and_go_on_when_the_cable_is_back(tmp_path: Path, cable: str) -> None:
    recipe = ranks.write_recipe(tmp_path, 150)
    ranks.finish(recipe, "local", "runtime.devices=2")
    for process in both(recipe, "whole"):
        code, errors = end(process)
        assert code == 0, errors
    losses: list[list[Any]] = [[line["loss"] for line in ranks.lines(recipe, work)] for work in ("local", "whole")]
    assert losses[0] == losses[1]
    assert ranks.state_hash(recipe, "whole") == ranks.state_hash(recipe, "local")

    processes = both(recipe, "cut", "runtime.restarts=0")
    wait_for(lambda: steps(recipe, "cut") >= 40, processes[0])
    ip("-n", "groundup-a", "link", "set", cable, "down")
    cut = time.monotonic()
    for process in processes:
        code, errors = end(process)
        seconds = time.monotonic() - cut
        assert code == 6, errors
        assert seconds < 30, "both have stopped, though no time-out of theirs is so short"
        assert "another machine has not been heard of" in errors or "the rendezvous at groundup-a" in errors, errors
    assert 40 <= steps(recipe, "cut") < 150

    ip("-n", "groundup-a", "link", "set", cable, "up")
    for process in both(recipe, "cut", "runtime.restarts=0"):
        code, errors = end(process)
        assert code == 0, errors
    assert ranks.state_hash(recipe, "cut") == ranks.state_hash(recipe, "local")
