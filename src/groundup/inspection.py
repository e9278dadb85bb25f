"""A tokenizer named on the command line -> how it cuts text, and how many tokens files need.

    recipe.yaml [key.path=value ...] -> its run's tokenizer     run, model or tokenizer folder, or file -> the one in it

Invariant: nothing is trained or changed here; a run without a tokenizer says which command makes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.corpus import Document, SourceConfig
from groundup.corpus.reading.hub import find_source
from groundup.corpus.reading.readers import Reading
from groundup.errors import ModelFileError
from groundup.log import logger
from groundup.pipeline import load_recipe, run_folder
from groundup.scratch import scratch_folder
from groundup.tokens import OWN, Tokenizer, load_foreign, measure_fertility

RECIPE_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Token:
    """One token of a text: its id, its bytes as text (escaped where they are no whole characters)."""

    id: int
    text: str


def load_target(target: str, words: Sequence[str]) -> tuple[Tokenizer, list[str]]:
    """The tokenizer that `target` means, and those of `words` that are no overrides. Raises ModelFileError."""
    path = Path(target)
    if path.suffix in RECIPE_SUFFIXES and not path.is_dir():
        overrides = [word for word in words if "=" in word and not Path(word).exists()]
        recipe = load_recipe(target, overrides)
        folder = run_folder(recipe) / "stages" / "tokenizer"
        if not folder.is_dir():
            raise ModelFileError(f"run '{recipe.name}' has no tokenizer yet; make it with: groundup prepare {target}")
        return Tokenizer.load(folder), [word for word in words if word not in overrides]
    of_run = path / "stages" / "tokenizer"
    if of_run.is_dir():
        return Tokenizer.load(of_run), list(words)
    try:
        return Tokenizer.load(path), list(words)
    except ModelFileError:
        tokenizer, done = load_foreign(path)
        logger.info(f"{done['format']}, left out: {', '.join(done['left_out']) or 'nothing'}")
        return tokenizer, list(words)


def cut(tokenizer: Tokenizer, text: str) -> list[Token]:
    """The tokens of a text."""
    return [Token(i, _shown(tokenizer.token_bytes(i))) for i in tokenizer.encode(text)]


def _shown(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in data)


def fertility_of_files(tokenizer: Tokenizer, paths: Sequence[str]) -> dict[str, Any]:
    """`measure_fertility` of files, each as a source; all formats that `prepare` reads, rejected records left out."""
    with scratch_folder("inspection") as scratch:
        sources = {path: documents_of(path, scratch) for path in paths}
        return measure_fertility(sources, {OWN: tokenizer})


def documents_of(path: str, scratch: Path) -> Iterator[Document]:
    """The texts of a file, a folder or a glob, of any format that `prepare` reads; rejected records are said."""
    source = SourceConfig(name="file", path=path)
    for file in find_source(source, Path.cwd()).files:
        rejected = 0
        for record in Reading(file, source, scratch):
            if isinstance(record, Document):
                yield record
            else:
                rejected += record.records
        if rejected:
            logger.warning(f"{file.name}: {rejected} records cannot be read and are left out")


def fertility_lines(fertility: Mapping[str, Any]) -> list[str]:
    """`measure_fertility` of one tokenizer as lines for people: all text, then each file, then each language."""
    groups = [("all", fertility["all"]), *fertility["sources"].items(), *fertility["languages"].items()]
    lines = []
    for name, figures in groups:
        found: Mapping[str, Any] = next(iter(figures["tokenizers"].values()), {})
        lines.append(
            f"{name[-40:]:<40} {figures['bytes']:>12,} bytes  {found.get('tokens', 0):>11,} tokens"
            f"  {_decimals(found.get('bytes_per_token'))} bytes a token"
            f"  {_decimals(found.get('tokens_per_word'))} tokens a word"
            f"  {_decimals(found.get('tokens_per_character'))} a character"
        )
    return lines


def _decimals(value: float | None) -> str:
    return "   -" if value is None else f"{value:4.2f}"
