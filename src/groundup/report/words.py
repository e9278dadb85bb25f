"""Numbers and names -> words for people: 6912000 -> "6.9M", 492.3 seconds -> "8 min 12 s", `grad_norm` -> "grad norm".

The unit is read from the end of a name (`_seconds`, `_bytes`, `_fraction`), the house's rule for names of numbers.
Invariant: every function takes whatever a file may hold and returns text; nothing here raises.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

MISSING = "–"
PERCENT_ENDINGS = ("fraction", "share", "accuracy", "efficiency", "exact_match", "f1", "mfu")
LONGEST_LIST = 12


def number(value: Any) -> float | None:
    """`value` as a finite float, or None: metrics files may hold null, text or NaN where a number should be."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def compact(value: Any) -> str:
    """6912000 -> "6.9M"; for headlines."""
    found = number(value)
    if found is None:
        return MISSING
    for limit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(found) >= limit:
            return f"{significant(found / (1e3 if suffix == 'k' else limit), 3 if suffix == 'k' else 2)}{suffix}"
    return exact(value)


def exact(value: Any) -> str:
    """6912000 -> "6,912,000"; 0.123456 -> "0.1235"; for tables."""
    found = number(value)
    if found is None:
        return MISSING
    return f"{found:,.0f}" if found == int(found) and abs(found) < 1e15 else significant(found, 4)


def significant(value: float, digits: int) -> str:
    """`value` with so many significant digits, without an exponent where that is readable."""
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if not -4 <= magnitude < 15:
        return f"{value:.{digits - 1}e}"
    decimals = max(digits - 1 - magnitude, 0)
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(value: Any, decimals: int = 1) -> str:
    """0.934 -> "93.4%"."""
    found = number(value)
    return MISSING if found is None else f"{100 * found:.{decimals}f}%"


def duration(value: Any) -> str:
    """492.3 seconds -> "8 min 12 s"."""
    seconds = number(value)
    if seconds is None or seconds < 0:
        return MISSING
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def size(value: Any) -> str:
    """1500000 bytes -> "1.5 MB"."""
    found = number(value)
    if found is None:
        return MISSING
    for limit, suffix in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(found) >= limit:
            return f"{significant(found / limit, 3)} {suffix}"
    return f"{found:.0f} bytes"


def name(key: str) -> str:
    """`tokens_per_second` -> "tokens per second"; the unit is left to the value."""
    for ending in ("_seconds", "_bytes", "_fraction"):
        if key.endswith(ending) and len(key) > len(ending) and not key.endswith("per_seconds"):
            key = key.removesuffix(ending) + (" share" if ending == "_fraction" else "")
    return key.replace("_", " ").strip()


def value(key: str, found: Any) -> str:
    """`found` in the unit that `key` names."""
    if found is None or found == "":
        return MISSING
    if isinstance(found, bool):
        return "yes" if found else "no"
    if isinstance(found, int | float):
        if key.endswith("seconds") and not key.endswith("per_second"):
            return duration(found)
        if key.endswith("bytes") and not key.startswith("n_"):
            return size(found)
        return percent(found) if key.endswith(PERCENT_ENDINGS) else exact(found)
    if isinstance(found, list):
        shown = ", ".join(value(key, item) for item in found[:LONGEST_LIST])
        return shown + (f" ... ({len(found)} in all)" if len(found) > LONGEST_LIST else "")
    return str(found)


def pairs(found: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf of a JSON-like mapping as (name, value in its unit); inner names are joined by " / "."""
    if not isinstance(found, Mapping):
        return
    for key, item in found.items():
        shown = f"{prefix}{name(str(key))}"
        if isinstance(item, Mapping):
            yield from pairs(item, f"{shown} / ")
        else:
            yield shown, value(str(key), item)
