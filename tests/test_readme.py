"""What the documents promise: commands are real and run, links lead somewhere, both READMEs say the same."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from groundup import cli, config
from groundup.cli import VERBS
from groundup.errors import EXIT_CODES
from groundup.log import logger
from groundup.pipeline import Recipe, load_recipe
from groundup.tokens import InstructSourceConfig, read_conversations

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.zh-CN.md")
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("data/**/*.md")]
)
CHEAP_VERBS = {"show", "schema", "doctor"}
_BLOCK = re.compile(r"(?:<!-- test: (\w+) -->\n)?```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")


class Block(NamedTuple):
    """A fenced block: the test it is meant for, its language, its text."""

    test: str
    language: str
    text: str


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str | None = None) -> list[Block]:
    found = [Block(*match) for match in _BLOCK.findall(read(page))]
    return [block for block in found if language in (None, block.language)]


def prose(page: str) -> str:
    return _BLOCK.sub("", read(page))


def commands(page: str) -> list[str]:
    """Lines of the page's `sh` blocks, without comments."""
    lines = "\n".join(block.text for block in blocks(page, "sh")).splitlines()
    return [line.split(" #")[0].strip() for line in lines if line.strip()]


def groundup_commands() -> list[tuple[str, str]]:
    return [(page, line) for page in PAGES for line in commands(page) if line.startswith("groundup ")]


def words_of(line: str) -> list[str]:
    return shlex.split(line.split(" > ")[0])[1:]


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """The command sets the logger up for a terminal; other tests want it as it was."""
    handlers, propagate, level = logger.handlers[:], logger.propagate, logger.level
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


@pytest.mark.parametrize(("page", "line"), groundup_commands())
def test_a_command_is_one_that_the_parser_takes(page: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    verb, *arguments = words_of(line)
    assert verb in VERBS, f"{page}: {line}"
    taken: list[str] = []
    monkeypatch.setitem(VERBS, verb, replace(VERBS[verb], handler=lambda options: taken.extend(options.words)))
    assert cli.main([verb, *arguments]) == 0, f"{page}: {line}"
    monkeypatch.chdir(ROOT)
    overrides = [word for word in taken if re.fullmatch(r"[\w.]+=\S*", word)]
    for recipe in (word for word in taken if word.startswith("recipes/")):
        load_recipe(recipe, overrides)


@pytest.mark.parametrize("line", [line for page, line in groundup_commands() if page == READMES[0]])
def test_a_cheap_command_of_the_readme_runs(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verb, *arguments = words_of(line)
    monkeypatch.chdir(ROOT)
    if verb in CHEAP_VERBS:
        assert cli.main([verb, *arguments]) == 0
        assert len(capsys.readouterr().out.splitlines()) > 5


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_image_leads_somewhere(page: str) -> None:
    missing = []
    for target in ("".join(found) for found in _LINK.findall(prose(page))):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        aim = (ROOT / page).parent / path if path else ROOT / page
        headings = re.findall(r"^#+ (.*)$", aim.read_text(encoding="utf-8"), re.MULTILINE) if anchor else []
        if not aim.exists() or (anchor and anchor not in map(slug, headings)):
            missing.append(target)
    assert not missing, f"{page}: {missing}"


@pytest.mark.parametrize("page", PAGES)
def test_no_figure_is_left_to_fill_in(page: str) -> None:
    assert not re.findall(r"(?<![A-Z])LEAD(?![A-Z])|TODO|TBD", read(page))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_no_place_of_the_machine_it_was_written_on(page: str) -> None:
    assert not re.findall(r"(?<![\w.])/(?:root|home|work|Users)/\w+", read(page))


@pytest.mark.parametrize("page", READMES)
def test_the_readme_shows_make_targets_that_exist(page: str) -> None:
    targets = re.findall(r"^([\w-]+):|\b(bench-\w+)", read("Makefile"), re.MULTILINE)
    targets = [target for pair in targets for target in pair if target]
    used = [line.split()[1] for name in PAGES for line in commands(name) if line.startswith("make ")]
    assert {"quickstart", "test"} <= set(used)
    assert {target for target in used if "=" not in target} <= set(targets)
    assert all(f"`make {name}`" in read(page) or f"make {name}" in read(page) for name in ("quickstart", "test"))


@pytest.mark.parametrize("page", READMES)
def test_the_recipe_in_the_readme_is_one(page: str) -> None:
    (block,) = [block for block in blocks(page, "yaml") if block.test == "recipe"]
    recipe = config.build(Recipe, config.parse_yaml(block.text, page), page)
    assert recipe.instruct is not None, "the page shows how to use own questions"


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_compile(page: str) -> None:
    for block in blocks(page, "python"):
        compile(block.text, page, "exec")


@pytest.mark.parametrize("page", PAGES)
def test_yaml_blocks_are_read_like_recipes(page: str) -> None:
    for block in blocks(page, "yaml"):
        values = config.parse_yaml(block.text, page)
        assert values.keys() - {"extends"} <= config.fields(Recipe).keys()


def test_conversations_in_the_documents_are_taken(tmp_path: Path) -> None:
    lines = [line for page in PAGES for block in blocks(page, "text") for line in block.text.splitlines()]
    records = [line for line in lines if line.startswith('{"')]
    (tmp_path / "shown.jsonl").write_text("\n".join(records), encoding="utf-8")
    reading = read_conversations(InstructSourceConfig(name="shown", path=str(tmp_path / "shown.jsonl")), tmp_path)
    assert len(list(reading)) == len(records) > 3
    assert reading.account()["formats"].keys() == {"alpaca", "messages", "sharegpt"}


@pytest.mark.parametrize("page", [*READMES, "docs/guide/troubleshooting.md", "docs/architecture.md"])
def test_exit_codes_are_told(page: str) -> None:
    told = {int(code) for code in re.findall(r"(?:\| |[\s:,;])(\d{1,3})(?= \|| [a-z(])", prose(page))}
    assert EXIT_CODES.keys() - {8} <= told


def test_every_verb_has_its_place_in_the_guide() -> None:
    guide = "\n".join(read(page) for page in PAGES if page.startswith("docs/guide/"))
    assert [verb for verb in VERBS if f"groundup {verb}" not in guide] == []
    assert [verb for verb in VERBS if f"`{verb}`" not in read("docs/architecture.md")] == []


def test_both_readmes_say_the_same() -> None:
    english, chinese = READMES
    pairs = list(zip(blocks(english), blocks(chinese), strict=True))
    assert [(one.test, one.language) for one, _ in pairs] == [(two.test, two.language) for _, two in pairs]
    for one, two in pairs:
        if one.language != "text":  # drawings are translated
            assert without_comments(one.text) == without_comments(two.text)
    assert heading_levels(english) == heading_levels(chinese)
    assert table_figures(english) == table_figures(chinese)
    targets = [{"".join(found) for found in _LINK.findall(prose(page))} - {*READMES} for page in READMES]
    assert targets[0] == targets[1]


def without_comments(text: str) -> list[str]:
    return [line.split(" #")[0].rstrip() for line in text.splitlines()]


def heading_levels(page: str) -> list[int]:
    return [len(marks) for marks in re.findall(r"^(#+) ", prose(page), re.MULTILINE)]


def table_figures(page: str) -> list[list[str]]:
    """The numbers in each row of each table: a figure changed in one language only would show here."""
    rows = [line for line in prose(page).splitlines() if line.startswith("|")]
    return [re.findall(r"\d+(?:[.,]\d+)*", row) for row in rows]
