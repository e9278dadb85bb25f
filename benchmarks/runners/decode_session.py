"""One job (a JSON argument) -> one JSON line: generation measured by the same rule for every tool.

    prefill    prompt of `prefill_tokens` -> its first new token
    decode     128 new tokens behind 32: the time of all of them less that of the first
    batch      many prompts of different lengths, `new_tokens` each; the best of the batch sizes in `batch_rows`
    uneven     the same prompts, each answer as long as `wanted` says: what an evaluation is like, where answers end

Greedy, without stop tokens. Every figure is the median of `repeats`, after a warm-up. Invariant: only the tool's own
calls are on the clock.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

Ids = list[int]
WARM_UPS = 2
"""A tool that compiles may do so anew for the second shape it sees."""


class Generator(Protocol):
    """A tool with its model loaded."""

    def generate(self, prompt: Ids, new_tokens: int) -> Ids:
        """The most likely continuation."""

    def batch(self, prompts: list[Ids], wanted: list[int], rows: int) -> list[Ids] | None:
        """Continuations of `wanted` tokens each, `rows` prompts at a time; None: the tool has no such thing."""


def seconds(call: Callable[[], object], repeats: int) -> float:
    """Median of `repeats` runs."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def measure(job: dict[str, Any], tool: Generator) -> dict[str, Any]:
    """All figures of one job."""
    prompts, repeats = json.loads(Path(job["prompts"]).read_text()), job["repeats"]
    short, long, new = prompts["decode"], prompts["prefill"], job["decode_tokens"]
    for _ in range(WARM_UPS):
        tool.generate(short, 1)
        tool.generate(short, new + 1)
        tool.generate(long, 1)
    first = seconds(lambda: tool.generate(short, 1), repeats)
    whole = seconds(lambda: tool.generate(short, new + 1), repeats)
    made = {
        "decode_tokens_per_second": new / (whole - first),
        "prefill_tokens_per_second": len(long) / seconds(lambda: tool.generate(long, 1), repeats),
        "answer": tool.generate(short, 16),
    }
    if job["batch_rows"]:
        made |= batches(job, tool, prompts["batch"], "batch", [job["new_tokens"]] * len(prompts["batch"]))
        made |= batches(job, tool, prompts["batch"], "uneven", prompts["wanted"])
    return made


def batches(job: dict[str, Any], tool: Generator, prompts: list[Ids], name: str, wanted: list[int]) -> dict[str, Any]:
    """New tokens per second of all prompts together, at the best number of rows."""
    if tool.batch(prompts[:2], [2, 2], 2) is None:
        return {}
    rates = {}
    for rows in job["batch_rows"]:
        answers: list[list[Ids]] = []
        call = partial(collect, answers, tool, prompts, wanted, rows)
        rates[rows] = sum(wanted) / seconds(call, job["batch_repeats"])
        assert [len(answer) for answer in answers[0]] == wanted, "every answer has the length that was asked for"
    best = max(rates, key=lambda rows: rates[rows])
    return {f"{name}_tokens_per_second": rates[best], f"{name}_rows": best}


def collect(answers: list[list[Ids]], tool: Generator, prompts: list[Ids], wanted: list[int], rows: int) -> None:
    """One run of `tool.batch`, its answers kept."""
    answers.append(tool.batch(prompts, wanted, rows) or [])


def main(load: Callable[[dict[str, Any]], Generator]) -> None:
    """Read the job, load the tool, print the figures."""
    job = json.loads(sys.argv[1])
    print(json.dumps(measure(job, load(job))))
