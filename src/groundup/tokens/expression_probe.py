"""Run as a program: cut long runs of the characters that an expression repeats, so that a slow one shows itself.

    python -P expression_probe.py < {"expression": "...", "sets": ["..."], "characters": 4096, "seconds": 5}

It is killed by the system when it has used so many seconds of a processor. Invariant: exit status 0 means that every
run was cut.
"""

from __future__ import annotations

import json
import resource
import sys
from itertools import pairwise

from tokenizers import Regex, pre_tokenizers

_ALL_BMP = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x10000))))


def main() -> None:
    """Read the request from stdin; cut runs of each character and each pair, with all characters behind."""
    request = json.loads(sys.stdin.read())
    resource.setrlimit(resource.RLIMIT_CPU, (request["seconds"], request["seconds"]))
    cut = pre_tokenizers.Split(Regex(request["expression"]), "isolated").pre_tokenize_str
    characters = {character for text in request["sets"] for character in _members(text)}
    every = "".join(sorted(characters))
    for run in [*characters, *map("".join, pairwise(sorted(characters)))]:
        long = run * (request["characters"] // len(run))
        # An engine that looks for a character of the expression first must find it, and then fail on the way to it.
        cut(long + every)
        cut(long + "\0" + every)


def _members(text: str) -> set[str]:
    """The first and the last character that a set holds."""
    if len(text) == 1:
        return {text}
    runs = pre_tokenizers.Split(Regex(text), "removed", invert=True).pre_tokenize_str(_ALL_BMP)
    return {runs[0][0][0], runs[-1][0][-1]} if runs else set()


if __name__ == "__main__":
    main()
