"""A checkpoint in parts -> the one that a single rank would have written, streamed.

Invariant: to the bit the files of one rank; memory is a few rows; the old folder stays until the new one is whole.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from groundup import stage
from groundup.errors import ModelFileError, resource_errors
from groundup.sharded import is_sharded, open_stored, read_index, write_whole
from groundup.train.folders import candidates, partial_of, require_room, take_place
from groundup.train.writing import STATE


def consolidate(folder: Path) -> None:
    """Let the newest checkpoint in `folder` have whole tensors; one that has them already stays as it is.

    Raises ModelFileError where a part is damaged, ResourceError when the disk refuses.
    """
    for checkpoint in candidates(folder)[:1]:
        if is_sharded(checkpoint):
            _consolidate(checkpoint)


def _consolidate(checkpoint: Path) -> None:
    manifest = stage.read_manifest(checkpoint)
    faults = stage.faults_of(checkpoint, manifest)
    if faults:
        raise ModelFileError(
            f"{checkpoint.parent.parent.name[:40]}/{checkpoint.name}: damaged ({faults[0][:80]});"
            " the same command goes on from the one before",
            details=faults[1:],
        )
    index = read_index(checkpoint)
    with resource_errors(checkpoint):
        require_room(checkpoint.parent, index.size_bytes)
        partial = partial_of(checkpoint)
        partial.mkdir()
        try:
            for file in index.files:
                write_whole(open_stored(checkpoint, file), partial / file)
            shutil.copyfile(checkpoint / STATE, partial / STATE)
            kept = {key: value for key, value in manifest.items() if key not in ("format", "files", stage.DIGEST)}
            stage.seal(partial, kept)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        take_place(partial, checkpoint)
