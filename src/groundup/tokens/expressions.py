"""What a foreign tokenizer cuts text with -> the reason why it is refused, or none.

The library's engine backtracks and has no clock, so one hostile expression and one line of text could stall a run or a
server. Two judges: its form (no repetition of a group, no reference back, few repetitions in a row), which rules out
exponential time, and its behaviour: a program of its own cuts long runs of the characters that it repeats, within a
limit, which rules out what is slow for other reasons.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from groundup.tokens import expression_probe
from groundup.tokens.patterns import LONGEST_FOREIGN_PIECE_CHARACTERS, PATTERNS

EXPRESSION_LIMIT_CHARACTERS = 4000
REPETITIONS_IN_A_ROW = 3
PROBE_CHARACTERS = LONGEST_FOREIGN_PIECE_CHARACTERS // 2
PROBE_SECONDS = 5
"""Of processor time, so that a busy machine refuses nothing; of real time, ten times as much."""
STEPS_LIMIT = 8
_TOO_SLOW = "takes seconds for a few lines of text"
_GROUP_STARTS = ("(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>")
_ESCAPE = re.compile(
    r"\\(?:[pP]\{\^?[\w=]+\}|x\{[0-9A-Fa-f]+\}|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|[^1-9kgGKXRpPxuAzZbBcCM])"
)
_COUNTED = re.compile(r"\{(\d*)(,?)(\d*)\}")


@dataclass
class _Scan:
    """What was found of an expression so far."""

    sets: list[str] = field(default_factory=list)
    """Sets and single characters, one character of text each."""
    fault: str = ""


@lru_cache
def fault_of(expression: str) -> str:
    """Why `expression` cannot be used, in words; "" when it can. Takes up to `PROBE_SECONDS` where it must be tried."""
    if any(expression in pattern.expressions for pattern in PATTERNS.values()):
        return ""
    if len(expression) > EXPRESSION_LIMIT_CHARACTERS:
        return f"is {len(expression)} characters long (limit {EXPRESSION_LIMIT_CHARACTERS})"
    scan = _scan(expression)
    return scan.fault or _probe(expression, sorted(set(scan.sets)))


def steps_of(pre_tokenizer: Any) -> list[dict[str, Any]]:
    """The steps of a pre-tokenizer or normalizer, sequences within sequences resolved; [] when it is none."""
    waiting, steps = [pre_tokenizer], list[dict[str, Any]]()
    while waiting:
        entry = waiting.pop()
        if not isinstance(entry, dict):
            continue
        inner = entry.get("pretokenizers", entry.get("normalizers")) if entry.get("type") == "Sequence" else None
        if isinstance(inner, list):
            waiting += reversed(inner)
        else:
            steps.append(entry)
    return steps


def fault_of_steps(steps: Sequence[Mapping[str, Any]]) -> str:
    """Why steps of a pre-tokenizer are not allowed (they lose characters, or are slow); "" when they are."""
    if len(steps) > STEPS_LIMIT:
        return f"{len(steps)} steps (limit {STEPS_LIMIT})"
    return next(filter(None, map(_fault_of_step, steps)), "")


def _fault_of_step(step: Mapping[str, Any]) -> str:
    kind, behaviour = step.get("type"), step.get("behavior")
    if kind in ("Digits", "UnicodeScripts"):
        return ""
    if kind not in ("Split", "Punctuation") or behaviour == "Removed":
        return f"{str(kind)[:30]} (with behavior {str(behaviour)[:20]}) is not known to keep every character"
    pattern = step.get("pattern", {}) if kind == "Split" else {}
    if kind == "Split" and not (isinstance(pattern, dict) and len(pattern) == 1 and {*pattern} <= {"Regex", "String"}):
        return "a Split without pattern"
    expression = pattern.get("Regex", "")
    fault = fault_of(expression) if isinstance(expression, str) else "is no text"
    return f"expression {str(expression)[:40]!r} {fault}" if fault else ""


def _scan(expression: str) -> _Scan:
    """Walk through an expression once.

    `in_a_row` counts repetitions in the alternative at hand, `most` in the longest of its group so far; `open_groups`
    keeps both for the groups around it.
    """
    scan = _Scan()
    position, in_a_row, most, before, open_groups = 0, 0, 0, "", list[tuple[int, int]]()
    while position < len(expression) and not scan.fault:
        character, step = expression[position], 1
        if character == "(":
            step = _group_start(expression, position)
            scan.fault = "" if step else f"has an unknown group at character {position}"
            open_groups.append((in_a_row, most))
            in_a_row, most, before = 0, 0, ""
        elif character == ")":
            scan.fault = "" if open_groups else "has a bracket that was not opened"
            inside = max(in_a_row, most)
            outside, most = open_groups.pop() if open_groups else (0, 0)
            in_a_row, before = outside + inside, "repeating group" if inside else "group"
        elif character == "|":
            in_a_row, most, before = 0, max(in_a_row, most), ""
        elif character in "*+?{":
            step, endless, times = _quantifier(expression, position)
            scan.fault = _fault_of_repetition(before, endless, times, step)
            in_a_row, before = in_a_row + endless, "quantifier"
        else:
            step = _set_length(expression, position)
            scan.fault = "" if step else f"cannot be judged at character {position}"
            scan.sets.append(expression[position : position + step])
            before = "set"
        if in_a_row > REPETITIONS_IN_A_ROW:
            scan.fault = f"repeats more than {REPETITIONS_IN_A_ROW} times in a row"
        position += step
    scan.fault = scan.fault or ("has a bracket that is not closed" if open_groups else "")
    return scan


def _group_start(expression: str, position: int) -> int:
    """Length of what opens a group; 0 for kinds that are not allowed (named, conditional, recursive)."""
    if not expression.startswith("(?", position):
        return 1
    return next((len(start) for start in _GROUP_STARTS if expression.startswith(start, position)), 0)


def _quantifier(expression: str, position: int) -> tuple[int, bool, int]:
    """(length with a following `?` or `+`, whether it has no end, how often at most) of one; length 0: none."""
    found = _COUNTED.match(expression, position)
    if found:
        least, comma, most = found.groups()
        endless = bool(comma) and not most
        return found.end() - position, endless, 0 if endless else int(most or least or 0)
    endless = expression[position] in "*+"
    lazy_or_possessive = expression[position + 1 : position + 2] in ("?", "+")
    return (0, False, 0) if expression[position] == "{" else (1 + lazy_or_possessive, endless, 1)


def _fault_of_repetition(before: str, endless: bool, times: int, step: int) -> str:
    if not step or before in ("", "quantifier"):
        return "repeats nothing, or a repetition"
    if endless and before != "set":
        return "repeats a group without end, which can take forever"
    if before == "repeating group" and times > 1:
        return "repeats a repetition, which can take forever"
    return "" if times <= 1000 else "repeats more than 1000 times"


def _set_length(expression: str, position: int) -> int:
    """Length of one set, escape or plain character; 0 when it is none that is allowed (such as a reference back)."""
    if expression[position] == "\\":
        found = _ESCAPE.match(expression, position)
        return found.end() - position if found else 0
    if expression[position] != "[":
        return 1
    depth, end = 0, position
    while end < len(expression):
        if expression[end] == "\\":
            end += 1
        elif expression[end] in "[]":
            depth += 1 if expression[end] == "[" else -1
            if depth == 0:
                return end + 1 - position
        end += 1
    return 0


def _probe(expression: str, sets: list[str]) -> str:
    """Cut runs of the characters that the expression names, in a program of its own that is stopped when it is slow."""
    request = {"expression": expression, "sets": sets, "characters": PROBE_CHARACTERS, "seconds": PROBE_SECONDS}
    command = [sys.executable, "-P", str(expression_probe.__file__)]
    try:
        done = subprocess.run(  # noqa: S603 - our own program, no shell
            command, input=json.dumps(request), capture_output=True, text=True, timeout=10 * PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return _TOO_SLOW
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return _TOO_SLOW
    return "" if done.returncode == 0 else "is not understood by the tokenizers library"
