"""Small files and folders that a recipe names beside its sources: word lists, dictionaries, keys, models.

Invariant: a name is tried in the places in order, and whatever is wrong is told with the recipe's field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from groundup.errors import DataError

LIMIT_BYTES = 256 << 20


def find_named(
    name: str, places: Iterable[Path], what: str, field: str, is_wanted: Callable[[Path], bool] = Path.is_file
) -> Path:
    """The first place's `what`, a file unless `is_wanted` says otherwise. Raises DataError without one."""
    paths = [place / Path(name).expanduser() for place in places]
    found = next((path for path in paths if is_wanted(path)), None)
    if found is None:
        raise DataError(f"{name}: no such {what}; correct {field}", details=[f"looked for {path}" for path in paths])
    return found


def read_named(name: str, places: Iterable[Path], what: str, field: str) -> tuple[Path, list[str]]:
    """A text file's path and its lines. Raises DataError when it is nowhere, too large or not UTF-8."""
    path = find_named(name, places, what, field)
    if path.stat().st_size > LIMIT_BYTES:
        raise DataError(f"{path}: a {what} of more than {LIMIT_BYTES >> 20} MiB; give a smaller one")
    try:
        return path, path.read_text(encoding="utf-8-sig").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path}: not readable as UTF-8 text ({error}); save the {what} as UTF-8") from None
