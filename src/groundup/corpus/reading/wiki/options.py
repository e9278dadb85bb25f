"""What a recipe may choose about MediaWiki dumps."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from groundup.config import Config


class WikiConfig(Config):
    """Which pages of a MediaWiki dump become documents, and what of their markup is kept as text."""

    namespaces: tuple[int, ...] = Field(default=(0,), min_length=1)
    """Numbers of the namespaces to read: 0 articles, 1 their talk pages, 4 the project's own pages, 14 categories."""
    disambiguation: Literal["drop", "keep"] = "drop"
    """Pages that only list the meanings of a name."""
    captions: Literal["keep", "drop"] = "keep"
    """Captions of pictures and galleries, each a paragraph of its own."""
    tables: Literal["drop", "rows"] = "drop"
    """`rows`: a line for each row of a table, with ` | ` between its cells."""
    variant: str = ""
    """What is taken of `-{zh-hans:...;zh-hant:...}-`, for instance `zh-hant` or `sr-el`; empty: the first given."""
    templates: dict[str, str] = Field(default_factory=dict)
    """Texts for more templates, as `"Höhe": "$1 m< ($2)>"`: `$1` and `$name` are arguments, `$a/b` is the first that is
    not empty, `<...>` is left out when those inside are empty. Unknown templates are dropped."""
