"""What a recipe says of one source of text: where it lies, how to read it, and what of each record is taken."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from groundup.config import Config, Name
from groundup.corpus.reading.encoding_names import named
from groundup.corpus.reading.files import reason_by_name
from groundup.corpus.reading.wiki.options import WikiConfig


class SourceConfig(Config):
    """Where one kind of text lies and how to read it."""

    name: Name
    """Name of the source in reports, mixtures and shard files."""
    path: str | tuple[str, ...] = ()
    """A file, a folder (with its subfolders) or a glob, or a list of them; absolute, or relative to the current or the
    recipe's folder."""
    hub: str = ""
    """Instead of a path a dataset of the Hugging Face hub, `owner/name`; each file is fetched when it is read."""
    hub_revision: str = "main"
    """Branch, tag or commit. The commit it stands for when the run starts is kept in the stage's identity."""
    dataset_config: str = ""
    """Configuration of a Hugging Face dataset (hub or folder) with several."""
    dataset_split: str = "train"
    """Split of a Hugging Face dataset (hub or folder) that has splits; `all` for every one."""
    include: tuple[str, ...] = ()
    """Of folders and archives only files whose name matches one of these patterns (`*.txt`, `news/*`), whatever their
    ending; empty: all of known types."""
    exclude: tuple[str, ...] = ()
    """Of folders and archives no file whose name matches one of these patterns."""
    split: Literal["auto", "train", "validation", "test"] = "auto"
    """`auto`: by hash; otherwise all of this source goes there."""
    format: Literal["auto", "text", "jsonl", "json", "csv", "parquet", "arrow", "html", "warc", "mediawiki"] = "auto"
    """`auto`: found by content, and said in log and report."""
    encoding: str = "auto"
    """Of text, JSON, CSV, HTML and MediaWiki: `auto` is found file by file (page by page), refused where it is not
    certain; otherwise a name such as `gb18030`, `big5`, `shift_jis`, `windows-1252`. A byte order mark wins."""
    invalid_bytes: Literal["reject", "replace"] = "reject"
    """What the encoding does not have: reject the file (in UTF-8 the JSON line, CSV row or page of a dump), or U+FFFD,
    counted."""
    text_field: str = "text"
    """Field or column that holds the text (jsonl, json, csv, parquet, arrow); `meta.body` is a field inside a field,
    `#2` the second column of a CSV file without a header."""
    text_template: str = ""
    """Text of several fields instead, such as `"{title}\\n\\n{body}"`; `{meta.title}` is a field inside a field."""
    extractor: Literal["trafilatura", "resiliparse"] = "trafilatura"
    """What finds the main text of HTML pages: trafilatura is better, resiliparse six times as fast."""
    comments: bool = False
    """Whether readers' comments under an HTML page belong to its text."""
    metadata_fields: tuple[str, ...] = ()
    """Fields kept beside the text (strings, numbers, booleans, dates); `id` always is."""
    license: str = ""
    """Licence of the text, for the report; a record's own (`license` in its metadata) goes before it, that of a dataset
    card is taken where this is empty."""
    max_document_bytes: int = Field(default=16 << 20, ge=1 << 10, le=1 << 28)
    """Longer text files are split at paragraphs; longer records are rejected (a JSON line may be twice as long)."""
    max_expanded_bytes: int = Field(default=1 << 36, ge=1 << 10)
    """A compressed file or archive that expands further is rejected; meanwhile the work folder needs that much disk."""
    wiki: WikiConfig = WikiConfig()
    """What is taken of MediaWiki dumps."""

    @field_validator("path")
    @classmethod
    def _local(cls, path: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for one in (path,) if isinstance(path, str) else path:
            if not one or "\0" in one:
                raise ValueError("must name a file, a folder or a glob")
            if "://" in one:
                raise ValueError("must be local: URLs are not fetched; download the file first")
        return path

    @field_validator("hub")
    @classmethod
    def _repository(cls, hub: str) -> str:
        if hub and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}", hub):
            raise ValueError("must be owner/name of a dataset on the Hugging Face hub")
        return hub

    @field_validator("hub_revision")
    @classmethod
    def _revision(cls, revision: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}", revision) or ".." in revision:
            raise ValueError("must be a branch, a tag or a commit")
        return revision

    @field_validator("encoding")
    @classmethod
    def _known(cls, encoding: str) -> str:
        if encoding != "auto" and not named(encoding):
            raise ValueError(
                "must be auto or an encoding such as utf-8, gb18030, big5, shift_jis, windows-1252, koi8-r"
            )
        return encoding

    @field_validator("text_template")
    @classmethod
    def _plain(cls, template: str) -> str:
        template_fields(template)
        return template

    @model_validator(mode="after")
    def _has_place(self) -> Self:
        if bool(self.paths) == bool(self.hub):
            raise ValueError("must have either a path or a hub name")
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """`path` as a list."""
        return (self.path,) if isinstance(self.path, str) else self.path

    @property
    def encoding_name(self) -> str:
        """The encoding by its one name; "" for auto."""
        return "" if self.encoding == "auto" else named(self.encoding)

    @property
    def replaces(self) -> bool:
        """Whether bytes that the encoding does not have are replaced."""
        return self.invalid_bytes == "replace"

    def choose(self, name: str) -> str:
        """Why a file of a folder or archive is not read; "" when it is."""
        return reason_by_name(name, self.include, self.exclude)

    @property
    def record_keys(self) -> tuple[str, ...]:
        """For records that are read whole: fields by which one is known, if it has any of them; else empty."""
        return ()


class RecordSourceConfig(SourceConfig):
    """A source of records that are read whole, with all their fields: no field is required of a table."""

    known_keys: tuple[str, ...]
    """Fields by which a record is known, if it has any; `#1` is the first column of a table without a header."""

    @property
    def record_keys(self) -> tuple[str, ...]:
        """Fields by which a record is known."""
        return self.known_keys


TEMPLATE_PARTS = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
"""Doubled braces, which stand for one, and fields."""


def template_fields(template: str) -> list[str]:
    """Fields of a template in order. Raises ValueError when it has none or braces without a meaning."""
    names = [part[1] for part in TEMPLATE_PARTS.finditer(template) if part[1] is not None]
    rest = TEMPLATE_PARTS.sub("", template)
    if template and (not names or "" in names or "{" in rest or "}" in rest):
        raise ValueError("must hold fields in braces, such as '{title}\\n\\n{body}'; write {{ and }} for braces")
    return names
