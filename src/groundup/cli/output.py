"""Results to stdout: text, or one JSON object."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from groundup.errors import printable
from groundup.log import finite


def show(text: str = "") -> None:
    """A line of the result."""
    print(printable(text))


def show_json(value: Any) -> None:
    """The whole result as one JSON object; of numbers that are not finite, null."""
    print(json.dumps(finite(value), ensure_ascii=True, indent=1, default=str))


def stream(pieces: Iterable[str]) -> None:
    """Pieces of a text as they come, without line ends between them."""
    for piece in pieces:
        print(printable(piece), end="", flush=True)


def show_stages(stages: Iterable[dict[str, Any]], prefix: str = "") -> None:
    """A line for each stage: its name, what became of it, how long that took, where it lies."""
    for entry in stages:
        seconds = f"{entry['seconds']:9.1f} s" if entry.get("seconds") is not None else " " * 11
        show(f"{prefix}{entry['name']:<14} {entry['state']:<8} {seconds}  {near(Path(entry['folder']))}")


def near(path: Path) -> str:
    """`path` relative to the current folder when it lies below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def takes_colour(stream: Any) -> bool:
    """Whether `stream` is a terminal whose user has nothing against colours."""
    return (
        stream is not None
        and bool(stream.isatty())
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
    )


def figures_of(folder: Path) -> dict[str, Any]:
    """The key figures in a run's folder; none where no report is written yet."""
    try:
        found = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
