"""Closing files: what says that some work is done, and that its files are still as they were written.

Invariant: a closing file is written last and atomically, and neither it nor what it names may change unseen, so work
with an intact one need not be done again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from groundup import stage
from groundup.config import digest
from groundup.errors import OF_THE_PROCESS

_DIGEST = "digest"
"""Key of a closing file's hash over the rest of it."""


def finish(
    folder: Path,
    marker: str,
    content: Mapping[str, Any],
    names: Iterable[str],
    hashed: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Write the closing file `marker` with the hashes of the files `names` of `folder`; returns what it holds.

    `hashed`: further files, whose hashes are known.
    """
    values = {**content, "files": {**{name: stage.hash_file(folder / name) for name in names}, **(hashed or {})}}
    read_back = json.loads(json.dumps(values, allow_nan=False))
    stage.write_text(folder / marker, json.dumps({**read_back, _DIGEST: digest(read_back)}))
    return values


def finished(folder: Path, marker: str) -> dict[str, Any] | None:
    """What an intact closing file holds; None when it or a file it names is missing or changed."""
    try:
        values: dict[str, Any] = json.loads((folder / marker).read_text(encoding="utf-8"))
        intact = values.pop(_DIGEST) == digest(values)
        intact = intact and all(stage.hash_file(folder / name) == it for name, it in values["files"].items())
    except OSError as error:
        if error.errno in OF_THE_PROCESS:
            raise
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return values if intact else None
