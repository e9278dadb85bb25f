"""What readers give: rows and rejections; and a row -> its document, by field or by template.

Invariant: a row becomes exactly one Document or one Rejected, and every field of a template has to be there.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, time
from typing import Any

from groundup.corpus.documents import Document
from groundup.corpus.reading.sources import TEMPLATE_PARTS, SourceConfig, template_fields

TOO_LONG = "longer than max_document_bytes"
_METADATA_LIMIT = 1000
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Row:
    """A record as it stands in the file: `number` counts from 1 (line, element or data row; piece of a long text)."""

    number: int
    values: dict[str, Any]
    continues: bool = False
    """A further piece of the text of the row before, which belongs to the same split."""
    member: str = ""
    """Name of the archive member that the row is of."""
    kept: tuple[str, ...] = ("id",)
    """Values that go into the metadata whatever the recipe asks for."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record (or `records` of them, or the file from here on) that cannot be used."""

    reason: str
    number: int = 0
    sample: str = ""
    records: int = 1
    member: str = ""
    """Name of the archive member that it is in."""


def columns_hint(names: list[str], source: SourceConfig) -> str:
    """Remedy for a missing field: the names that are there, and what to set."""
    shown = ", ".join(name[:30] for name in names[:12]) + (", ..." if len(names) > 12 else "")
    return f"found: {shown or 'none'}; {'correct text_template' if source.text_template else 'set text_field'}"


def written_fields(source: SourceConfig) -> list[str]:
    """Fields of which the text is made, as the recipe writes them; of a record read whole those it is known by."""
    return list(source.record_keys) or template_fields(source.text_template) or [source.text_field]


def needed_fields(source: SourceConfig, known: Container[str] = ()) -> tuple[str, ...]:
    """Top-level fields that a row must have to become a text; a record read whole needs none of them."""
    return () if source.record_keys else outer_fields(written_fields(source), known)


def outer_fields(names: Iterable[str], known: Container[str]) -> tuple[str, ...]:
    """`meta` for `meta.title`, unless that is itself a `known` name; each once."""
    return tuple(dict.fromkeys(name if name in known else name.partition(".")[0] for name in names))


def to_document(row: Row, source: SourceConfig, file_name: str) -> Document | Rejected:
    """The document of one row, or why it is none: no, empty, non-string, not encodable or too long text."""
    text = _templated(row, source) if source.text_template else _of_field(row, source)
    if isinstance(text, Rejected):
        return text
    if not text or text.isspace():
        return Rejected("empty text", row.number)
    try:
        size_bytes = len(text.encode())
    except UnicodeEncodeError as error:
        around = text[max(0, error.start - 20) : error.start + 20]
        return Rejected("lone surrogate (no character)", row.number, f"at character {error.start}: {around}")
    if size_bytes > source.max_document_bytes:
        return Rejected(TOO_LONG, row.number, f"{size_bytes} bytes: {text[:60]}")
    where = f"{file_name}/{row.member}" if row.member else file_name
    return Document(f"{where}:{row.number}", text, source.name, _metadata(row, source))


def _of_field(row: Row, source: SourceConfig) -> str | Rejected:
    text = _field(row.values, source.text_field)
    if text is _MISSING:
        return _missing(row, source, source.text_field)
    if isinstance(text, str):
        return text
    if isinstance(text, bytes):  # Parquet files of some writers do not say that their bytes are text
        try:
            return text.decode()
        except UnicodeDecodeError as error:
            return Rejected("not UTF-8 text", row.number, f"byte {error.start} of the field")
    kind = "null" if text is None else type(text).__name__
    return Rejected("text is not a string", row.number, f"it is {kind}: {str(text)[:60]}")


def _templated(row: Row, source: SourceConfig) -> str | Rejected:
    """The template with its fields filled in; null is nothing, numbers are written out, lists and objects refused."""
    filled: dict[str, str] = {}
    for name in template_fields(source.text_template):
        value = _field(row.values, name)
        if value is _MISSING:
            return _missing(row, source, name)
        if isinstance(value, dict | list | bytes):
            return Rejected(f"field '{name}' is not a text", row.number, f"it is a {type(value).__name__}")
        filled[name] = "" if value is None else str(value)
    if not any(filled.values()):
        return ""
    template = source.text_template
    return TEMPLATE_PARTS.sub(lambda part: part[0][0] if part[1] is None else filled[part[1]], template).strip()


def _missing(row: Row, source: SourceConfig, name: str) -> Rejected:
    return Rejected(f"no field '{name}'", row.number, columns_hint([str(key) for key in row.values], source))


def _field(values: Mapping[str, Any], name: str) -> Any:
    """The value of a field; of a dotted one step by step, unless a field has just that name; null within null,
    _MISSING where there is none.
    """
    if name in values:
        return values[name]
    value: Any = values
    for step in name.split("."):
        if value is None:
            return None
        if not isinstance(value, Mapping) or step not in value:
            return _MISSING
        value = value[step]
    return value


def _metadata(row: Row, source: SourceConfig) -> dict[str, Any]:
    """Plain and finite values of the wanted fields, dates in ISO 8601; long strings are cut."""
    kept: dict[str, Any] = {}
    for name in (*row.kept, *source.metadata_fields):
        value = _field(row.values, name)
        if isinstance(value, str):
            kept[name] = value.encode("utf-8", "replace").decode()[:_METADATA_LIMIT]
        elif isinstance(value, date | time):
            kept[name] = value.isoformat()
        elif isinstance(value, bool | int) or (isinstance(value, float) and value - value == 0):
            kept[name] = value
    return kept
