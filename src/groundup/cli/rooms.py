"""Rooms of the package, imported by name when a verb needs them, so that `groundup --help` starts at once."""

from __future__ import annotations

import importlib
from typing import Any


def room(name: str) -> Any:
    """A room of the package, for example `pipeline`."""
    return importlib.import_module(f"groundup.{name}")
