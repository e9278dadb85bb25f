"""What the command was told -> who judges; a comparison -> lines for a terminal.

Invariant: a key comes from a file or from an environment variable that the command names, never from elsewhere, and is
never shown.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from groundup import config
from groundup.compare.comparison import Comparison
from groundup.compare.judge import MAX_TOKENS, Judge
from groundup.corpus.augment import Endpoint, EndpointConfig
from groundup.errors import RecipeError
from groundup.evaluate import Metric


def judge_of(options: Mapping[str, Any]) -> Judge | None:
    """The judge, or None when none is named. `options`: judge, judge_model, judge_key_file, judge_key_env,
    judge_timeout, judge_attempts; raises RecipeError for all faults, DataError when there is no such file of a key.
    """
    url = options.get("judge")
    if url is None:
        given = next((name for name, value in options.items() if name.startswith("judge_") and value is not None), None)
        if given or options.get("people"):
            raise RecipeError(f"--{(given or 'people').replace('_', '-')} belongs to a judge; give --judge URL as well")
        return None
    if not options.get("judge_model"):
        raise RecipeError("--judge needs --judge-model NAME, the model that the server is asked for")
    named = {
        "url": url,
        "model": options["judge_model"],
        "api_key_file": options.get("judge_key_file"),
        "timeout_seconds": options.get("judge_timeout"),
        "attempts": options.get("judge_attempts"),
    }
    values = {name: value for name, value in named.items() if value is not None}
    server = config.build(EndpointConfig, values, "--judge")
    endpoint = Endpoint(
        server,
        (Path.cwd(),),
        temperature=0.0,
        max_tokens=MAX_TOKENS,
        whose="--judge",
        key=_key(options.get("judge_key_env"), server),
    )
    return Judge(endpoint, server.concurrent)


def _key(name: str | None, server: EndpointConfig) -> str:
    if name is None:
        return ""
    if server.api_key_file:
        raise RecipeError("--judge-key-file and --judge-key-env both name a key; give one of them")
    if not os.environ.get(name):
        raise RecipeError(f"--judge-key-env {name[:40]}: no such environment variable is set; set it, or give a file")
    return os.environ[name].strip()


def lines_of(found: Comparison) -> Iterator[str]:
    """Figures, then the verdicts."""
    for each in found.differences:
        values = [_shown(metric) for metric in (*each.sides, each.difference)]
        yield f"{each.name:<12} A {values[0]}   B {values[1]}   B - A {values[2]}   n {each.difference.n}"
    if found.tally is not None:
        wins, orders = found.tally.wins, found.tally.orders
        yield f"judge        A {wins['a']}   B {wins['b']}   tie {wins['tie']}   B wins {_shown(found.tally.rate)}"
        yield f"             both orders agree {_shown(orders.share)}, kappa {_number(orders.kappa)}"
        if found.tally.people is not None:
            people = found.tally.people
            yield f"             agrees with people {_shown(people.share)}, kappa {_number(people.kappa)}"


def _shown(metric: Metric) -> str:
    return f"{metric.value:.4f}" + ("" if metric.stderr is None else f" ± {metric.stderr:.4f}")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
