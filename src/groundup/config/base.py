"""What every config class is: frozen, strictly typed, documented by the string under each field."""

from __future__ import annotations

import typing
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

ConfigType = TypeVar("ConfigType", bound="Config")

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
"""A name that may become a file name: letters, digits, dot, dash, underscore; at most 64."""


def _local(path: str) -> str:
    if not path or "\0" in path or "://" in path:
        raise ValueError("must name a local file, a folder or a glob; download data first")
    return path


LocalPath = Annotated[str, AfterValidator(_local)]
"""A file, a folder or a glob on this machine."""


class Config(BaseModel):
    """Base of every config class. Field documentation is the string under the field."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        serialize_by_alias=True,
    )


def fields(cls: type[Config]) -> dict[str, Any]:
    """Fields by the name they have in a recipe (the alias where one is given, as for `lambda`)."""
    return {field.alias or name: field for name, field in cls.model_fields.items()}


def config_classes(annotation: Any) -> list[type[Config]]:
    """All config classes inside an annotation: optional, union, tuple, annotated."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    return [found for inner in typing.get_args(annotation) for found in config_classes(inner)]
