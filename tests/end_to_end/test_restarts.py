"""Ranks that are killed, hang or are slow: started again by the command, to the bit, or named; and machines that go."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from groundup.log import read_lines
from tests.end_to_end import test_ranks as ranks
from tests.ports import free_port

TWO = "runtime.devices=2"
TEST = "runtime.test_faults=true"


def start(recipe: Path, work: str, *words: str, fault: str = "") -> subprocess.Popen[str]:
    given = ranks.command(recipe, work, *words)
    environment = {**os.environ, **({"FAULT": fault} if fault else {})}
    return subprocess.Popen(given, start_new_session=True, stderr=subprocess.PIPE, text=True, env=environment)


def end(process: subprocess.Popen[str], seconds: float = 300) -> tuple[int, str]:
    try:
        _, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, errors


def events(recipe: Path, work: str, name: str) -> list[dict[str, Any]]:
    found = read_lines(recipe.parent / work / "runs/tiny/events.jsonl")
    return [event for event in found if event["event"] == name]


def wait_for(condition: Any, process: subprocess.Popen[str], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read() if process.stderr is not None else ""
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.02)


def steps(recipe: Path, work: str) -> int:
    return len(ranks.lines(recipe, work))


@pytest.mark.slow
def test_a_killed_rank_is_started_again_by_the_command_and_the_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    recipe = ranks.write_recipe(tmp_path, 150)
    ranks.finish(recipe, "whole", TWO)
    process = start(recipe, "killed", TWO)
    for number, at in ((1, 40), (0, 90)):
        wait_for(lambda at=at: steps(recipe, "killed") >= at, process)
        killed = time.monotonic()
        reached = steps(recipe, "killed")
        os.kill(ranks.ranks_of(process.pid)[number], signal.SIGKILL)
        wait_for(lambda reached=reached: steps(recipe, "killed") > reached, process)
        assert time.monotonic() - killed < 30, "from the kill to a step beyond it"
    code, errors = end(process)
    assert code == 0, errors
    assert errors.count("was killed by SIGKILL") == 2 and "starting the ranks again (1 of 3)" in errors
    told = events(recipe, "killed", "restart")
    assert [(each["rank"], each["signal"], each["world_size"]) for each in told] == [
        (1, "SIGKILL", 2),
        (0, "SIGKILL", 2),
    ]
    assert len(events(recipe, "killed", "restarted")) == 2
    assert ranks.state_hash(recipe, "killed") == ranks.state_hash(recipe, "whole")
    assert not ranks.alive(list(ranks.ranks_of(process.pid).values()))


@pytest.mark.slow
def test_a_step_that_kills_a_rank_every_time_is_a_crash_loop_with_its_code(tmp_path: Path) -> None:
    recipe = ranks.write_recipe(tmp_path, 60)
    words = (TWO, TEST, "runtime.restarts=2", "runtime.checkpoint_every_seconds=100")
    code, errors = end(start(recipe, "work", *words, fault="crash@20:rank1"))
    assert code == 8 and "3 starts in a row ended without a checkpoint in between" in errors, errors
    assert [each["number"] for each in events(recipe, "work", "restart")] == [1, 2]
    limit = (TWO, TEST, "runtime.restarts=9", "runtime.max_failed_attempts=4", "runtime.checkpoint_every_seconds=100")
    code, errors = end(start(recipe, "work", *limit, fault="crash@20:rank1"))
    assert code == 8 and "ended at step 19 in 4 attempts in a row" in errors, errors
    ranks.finish(recipe, "work", TWO)


@pytest.mark.slow
def test_a_hung_rank_is_named_with_its_place_and_the_run_goes_on(tmp_path: Path) -> None:
    recipe = ranks.write_recipe(tmp_path, 40)
    timeouts = [f"runtime.{section}_timeout_seconds=5" for section in ("step", "checkpoint", "validation")]
    words = (TWO, TEST, *timeouts, "runtime.checkpoint_every_seconds=0.01")
    process = start(recipe, "work", *words, "runtime.restarts=0", fault="hang@20:rank1")
    wait_for(lambda: steps(recipe, "work") == 19, process)
    began = time.monotonic()
    wait_for(lambda: events(recipe, "work", "watchdog"), process)
    assert time.monotonic() - began < 5 + 10
    code, errors = end(process)
    assert code == 6 and "rank 1 on" in errors and "hangs at train/faults.py" in errors, errors
    (culprit,) = events(recipe, "work", "watchdog")[0]["culprits"]
    assert (culprit["rank"], culprit["silent"], culprit["step"]) == (1, False, 20)
    assert "before_step" in culprit["at"]
    assert "before_step" in (tmp_path / "work/runs/tiny/stacks-rank-1.txt").read_text()
    process = start(recipe, "work", *words)
    wait_for(lambda: steps(recipe, "work") >= 25, process)
    stopped = ranks.ranks_of(process.pid)[1]
    os.kill(stopped, signal.SIGSTOP)
    code, errors = end(process)
    assert code == 0 and "is silent (stopped" in errors and "starting the ranks again" in errors, errors
    assert not ranks.alive([stopped])
    assert steps(recipe, "work") == 40


@pytest.mark.slow
def test_a_slow_rank_is_named_within_fifty_steps(tmp_path: Path) -> None:
    recipe = ranks.write_recipe(tmp_path, 50)
    code, errors = end(start(recipe, "work", TWO, TEST, fault="slow_step=150:rank1"))
    assert code == 0 and "rank 1 on" in errors and "is slow" in errors, errors
    (event,) = events(recipe, "work", "straggler")
    assert event["rank"] == 1 and event["step"] < 50 and event["others_wait_share"] > event["waits_share"]


@pytest.mark.slow
def test_machines_meet_by_the_command_and_one_that_is_lost_comes_back(tmp_path: Path) -> None:
    """Two commands on this machine stand for two machines; one is killed with its ranks, and started again."""
    recipe, slow = ranks.write_recipe(tmp_path, 200, optimizer=ranks.ADAMW), "slow_step=250"
    ranks.finish(recipe, "two", TWO)
    words = (
        TEST,
        "runtime.nodes=2",
        "runtime.min_nodes=1",
        "runtime.step_timeout_seconds=20",
        f"runtime.rendezvous={(meeting := _free())}",
    )
    ranks.command(recipe, "work")  # makes the folder that both share
    # Slow steps: there is time for a machine to come back.
    first = start(recipe, "work", *words, fault=slow)
    wait_for(lambda: _answers(meeting), first)  # on one machine, whoever comes first keeps the store
    second = start(recipe, "work", *words, fault=slow)
    wait_for(lambda: steps(recipe, "work") >= 30, first)
    second.kill()
    second.communicate()
    reached = steps(recipe, "work")
    lost = time.monotonic()
    wait_for(lambda: steps(recipe, "work") > reached, first)
    assert time.monotonic() - lost < 60
    second = start(recipe, "work", *words, fault=slow)
    wait_for(lambda: 2 in [each["world_size"] for each in events(recipe, "work", "resumed")], first)
    for process in (first, second):
        code, errors = end(process, 200)
        assert code == 0, errors
    assert [each["world_size"] for each in events(recipe, "work", "restart")] == [1, 2]
    whole, parts = ranks.lines(recipe, "two"), ranks.lines(recipe, "work")
    assert [line["sample_ids_hash"] for line in parts] == [line["sample_ids_hash"] for line in whole]
    # Rounding grows on: after some hundred steps at this rate it would be seen.
    assert [line["loss"] for line in parts][:100] == pytest.approx([line["loss"] for line in whole][:100], rel=1e-5)


def _answers(address: str) -> bool:
    host, _, port = address.partition(":")
    with socket.socket() as caller:
        return caller.connect_ex((host, int(port))) == 0


def _free() -> str:
    return f"127.0.0.1:{free_port()}"
