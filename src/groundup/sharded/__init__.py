"""Tensors that lie in parts in several safetensors files <-> whole ones, streamed; no torch in this room."""

from __future__ import annotations

from groundup.sharded.boxes import Box
from groundup.sharded.index import DTYPE_BYTES, INDEX, Entry, Index, Part, is_sharded, part_file, read_index
from groundup.sharded.reading import Stored, check, open_stored
from groundup.sharded.whole import file_of, whole_files, write_whole

__all__ = [
    "DTYPE_BYTES",
    "INDEX",
    "Box",
    "Entry",
    "Index",
    "Part",
    "Stored",
    "check",
    "file_of",
    "is_sharded",
    "open_stored",
    "part_file",
    "read_index",
    "whole_files",
    "write_whole",
]
