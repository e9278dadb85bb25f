"""Parquet and Arrow files -> rows, a few at a time.

Invariant: only the columns that are asked for are decoded; extension types are read as what they are stored as, and
nothing that a file says about Python objects is believed.
"""

from __future__ import annotations

import io
import mmap
from collections.abc import Iterator
from typing import Any, BinaryIO

from groundup.corpus.reading.compressed import is_of_machine
from groundup.corpus.reading.records import Rejected, Row, columns_hint, needed_fields, outer_fields
from groundup.corpus.reading.sources import SourceConfig

_ROWS = 256
_SAMPLE_CHARACTERS = 120


def read_parquet(handle: BinaryIO, source: SourceConfig) -> Iterator[Row | Rejected]:
    """Rows of a Parquet file, a few at a time, page checksums verified where the file has them."""
    import pyarrow as pa  # here, because few corpora need it and it takes a quarter of a second
    import pyarrow.parquet as pq

    total = read = 0
    try:
        file = pq.ParquetFile(handle, page_checksum_verification=True)
        total = file.metadata.num_rows
        columns, fault = _columns(pa, file.schema_arrow, source, max(total, 1))
        if fault is not None:
            yield fault
            return
        for batch in file.iter_batches(batch_size=_ROWS, columns=columns, use_threads=False):
            for values in batch.to_pylist():
                read += 1
                yield Row(read, values)
    except (pa.ArrowException, OSError, ValueError) as error:
        if is_of_machine(error):
            raise
        yield Rejected("damaged Parquet", 0, _fault(read, error), max(total - read, 1))


def read_arrow(handle: BinaryIO, source: SourceConfig) -> Iterator[Row | Rejected]:
    """Rows of an Arrow file (Feather, `datasets`), in the stream or in the file layout."""
    import pyarrow as pa

    read = 0
    try:
        buffer = pa.py_buffer(_mapped(handle))
        batches, schema = _batches(pa, buffer)
        columns, fault = _columns(pa, schema, source, 1)
        if fault is not None:
            rows = sum(batch.num_rows for batch in batches)
            yield Rejected(fault.reason, 0, fault.sample, max(rows, 1))
            return
        for batch in batches:
            batch = batch.select(columns)
            batch.validate(full=True)
            for start in range(0, batch.num_rows, _ROWS):
                for values in batch.slice(start, _ROWS).to_pylist():
                    read += 1
                    yield Row(read, values)
        if not _is_ended(buffer):
            yield Rejected("truncated Arrow", 0, f"after row {read}: its end mark is missing")
    except (pa.ArrowException, OSError, ValueError) as error:
        if is_of_machine(error):
            raise
        yield Rejected("damaged Arrow", 0, _fault(read, error))


def _mapped(handle: BinaryIO) -> Any:
    """The whole file: mapped where it lies on a disk, in memory where it does not (16 MiB at most)."""
    try:
        return mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError, AttributeError, io.UnsupportedOperation):
        handle.seek(0)
        return handle.read()


def _batches(pa: Any, buffer: Any) -> tuple[Iterator[Any], Any]:
    """(record batches one by one, schema) of either layout."""
    if buffer[:6].to_pybytes() == b"ARROW1":
        file = pa.ipc.open_file(buffer)
        return (file.get_batch(i) for i in range(file.num_record_batches)), file.schema
    stream = pa.ipc.open_stream(buffer)
    return iter(stream), stream.schema


def _is_ended(buffer: Any) -> bool:
    """Whether a stream has its end mark, which pyarrow does not ask for; a file without its footer is not opened."""
    tail = buffer[max(0, buffer.size - 64) :].to_pybytes().rstrip(b"\0")
    return bool(tail.endswith((b"\xff\xff\xff\xff", b"ARROW1")))


def _columns(pa: Any, schema: Any, source: SourceConfig, records: int) -> tuple[list[str], Rejected | None]:
    """Columns to read, or why the text is not in this file."""
    names = schema.names
    if source.record_keys:
        return list(names), None
    needed = needed_fields(source, names)
    for name in needed:
        if name not in names:
            return [], Rejected(f"no column '{name}'", 0, columns_hint(names, source), records)
    if not source.text_template:
        kind = _type_of(pa, schema, source.text_field)
        if kind is None:
            shown = str(schema.field(needed[0]).type)[:_SAMPLE_CHARACTERS]
            return [], Rejected(f"no field '{source.text_field}'", 0, f"'{needed[0]}' is {shown}", records)
        if not _is_text(pa, kind):
            return [], Rejected("text column is not a string", 0, f"'{source.text_field}' is {kind}", records)
    wanted = dict.fromkeys((*needed, "id", *outer_fields(source.metadata_fields, names)))
    return [name for name in wanted if name in names], None


def _type_of(pa: Any, schema: Any, name: str) -> Any:
    """The type of a column, or of a field inside structs (`meta.title`); None when there is none."""
    if name in schema.names:
        return schema.field(name).type
    first, *steps = name.split(".")
    kind = schema.field(first).type
    for step in steps:
        if not pa.types.is_struct(kind) or kind.get_field_index(step) < 0:
            return None
        kind = kind.field(kind.get_field_index(step)).type
    return kind


def _is_text(pa: Any, kind: Any) -> bool:
    """Whether values are strings, or bytes that may be text: some writers of Parquet do not tell these apart."""
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    tests = ("is_string", "is_large_string", "is_string_view", "is_binary", "is_large_binary", "is_binary_view")
    return any(getattr(pa.types, test)(plain) for test in tests)


def _fault(read: int, error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return f"after row {read}: {lines[0][:_SAMPLE_CHARACTERS]}"
