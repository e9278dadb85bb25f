"""The recipe reference names every field, and docs/reference/recipe.md is what the config classes say today."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from groundup import config
from groundup.config import Config
from groundup.pipeline import Recipe
from groundup.reference import markdown, type_text

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "recipe.md"


class Left(Config):
    """The left | one."""

    kind: Literal["left"] = "left"
    size: int = Field(default=3, ge=1, lt=9)
    """How
    large."""


class Right(Config):
    """The right one."""

    kind: Literal["right"] = "right"
    names: tuple[str, ...] = ()


class Toy(Config):
    """A toy."""

    side: Annotated[Left | Right, Field(discriminator="kind")] = Left()
    many: tuple[Left, ...] = Field(min_length=1)
    lambda_: float | None = Field(default=None, alias="lambda")
    shares: dict[str, float] = {}


def test_every_field_has_a_row_with_type_range_default_and_meaning() -> None:
    text = markdown(Toy)
    assert "| `size` | integer, ≥ 1, < 9 | `3` | How large. |" in text
    assert "| `many` | list of [Left](#left), at least 1 | *required* |  |" in text
    assert "| `lambda` | number or null | `null` |  |" in text
    assert "| `shares` | mapping of text to number | `{}` |  |" in text
    assert "| `side` | [Left](#left) or [Right](#right) | its own defaults |  |" in text
    assert '| `kind` | `left` | `"left"` | Which of the alternatives this is. |' in text
    assert text.count("## Left\n\nAt `side`. The left") == text.count("## Right\n\nAt `side`. The right") == 1


def test_types_are_in_a_writers_words() -> None:
    assert type_text(tuple[float, float]) == "[number, number]"
    assert type_text(Literal["a", "b"]) == "one of `a`, `b`"
    assert type_text(list[bool]) == "list of true or false"


def test_every_field_of_a_recipe_says_what_it_means() -> None:
    silent = []
    seen: set[type[Config]] = set()
    waiting: list[type[Config]] = [Recipe]
    while waiting:
        cls = waiting.pop()
        if cls in seen:
            continue
        seen.add(cls)
        for name, field in config.fields(cls).items():
            if not field.description and name != "kind":
                silent.append(f"{cls.__name__}.{name}")
            waiting += config.config_classes(field.annotation)
    assert not silent


def test_the_page_is_not_stale() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown(Recipe), (
        "docs/reference/recipe.md is stale: groundup schema --markdown > docs/reference/recipe.md"
    )
