"""A model on the disk, described and not read yet: a Hugging Face folder or a GGUF file -> our tensors, one at a time.

    config.json -> architecture ; headers -> names, shapes ; both agree? -> source[our name] -> tensor, all finite
    *.gguf      -> the same, by way of Hugging Face's names (`groundup.export.gguf`)

Invariant: nothing is allocated before description and headers agree; at most one tensor of the file is held at a time,
so a model larger than memory can be copied from layout to layout.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from groundup.config import digest
from groundup.errors import ModelFileError
from groundup.export.architecture import read_architecture
from groundup.export.gguf import read_gguf
from groundup.export.weights import (
    TensorFacts,
    TensorFiles,
    fault,
    find_weights,
    read_json,
    refuse_pickles,
    require_weights,
)
from groundup.models import Decoder, Layout, NetworkConfig, check_shapes, full_names, gathered, holders, own_shapes
from groundup.stage import hash_file

CONFIG = "config.json"
GGUF_SUFFIX = ".gguf"
GIANT = 100
"""Times the numbers that a file holds: more than that is not compared tensor by tensor."""


@dataclass(frozen=True, eq=False)
class ModelSource(Mapping[str, Tensor]):
    """Our tensors of a model by name, each read when it is asked for, in the dtype of the file."""

    path: Path
    config: NetworkConfig
    vocab_size: int
    """Rows of its tables."""
    files: tuple[Path, ...]
    """All that decides the model."""
    where: Mapping[str, tuple[str, ...]]
    """Our name -> what the file calls the tensor that holds it, or all pieces of it in order."""
    shapes: Mapping[str, tuple[int, ...]]
    """Of our tensors."""
    read: Callable[[str], Iterator[tuple[str, Tensor]]]
    """Our tensors in one of theirs."""

    def __getitem__(self, name: str) -> Tensor:
        return gathered(name, [dict(self.read(theirs))[name] for theirs in self.where[name]], self.shapes)

    def __iter__(self) -> Iterator[str]:
        return iter(self.where)

    def __len__(self) -> int:
        return len(self.where)

    @property
    def lacking(self) -> tuple[str, ...]:
        """Tensors of such a model that the file has not: the heads, where it is a body without them."""
        return tuple(name for name in self.shapes if name not in self.where)

    def identity(self) -> str:
        """Hash over the content of all files that decide the model."""
        found = ((file, file.stat()) for file in self.files)
        return digest({file.name: _hashed(file, facts.st_size, facts.st_mtime_ns) for file, facts in found})


@functools.cache
def _hashed(path: Path, size_bytes: int, changed_ns: int) -> str:
    """Hash of a file, once a process: a recipe's fingerprints are asked for several times."""
    return hash_file(path)


def open_source(path: Path) -> ModelSource:
    """A folder or a .gguf file, judged. Raises ModelFileError naming file, finding and remedy."""
    try:
        return (
            _open_gguf(path) if path.suffix == GGUF_SUFFIX and not path.is_dir() else _open_folder(model_folder(path))
        )
    except OSError as error:
        raise fault(path, f"cannot be read ({error.strerror}); check the path and its permissions") from None


def model_folder(path: Path) -> Path:
    """`path` itself, or its `model` when it is a run. Raises ModelFileError when neither holds a config.json."""
    for folder in (path, path / "model"):
        if (folder / CONFIG).is_file():
            return folder
    refuse_pickles(path)
    if not path.is_dir():
        what = "is a file" if path.exists() else "is not there"
        raise fault(path, f"{what}; give the folder of a Hugging Face model, or of a run (work/runs/<name>)")
    if (path / "recipe.yaml").is_file():
        raise fault(path, "a run without an exported model so far; finish it with `groundup run` and its recipe")
    raise fault(path, f"no {CONFIG} here, so this is no model; give a folder with a Hugging Face model, or a run")


def _open_folder(folder: Path) -> ModelSource:
    config, vocab_size, layout = read_architecture(read_json(folder / CONFIG), folder / CONFIG)
    facts = find_weights(folder)
    _check_size(config, vocab_size, {name: fact.shape for name, fact in facts.items()}, layout, folder / CONFIG)
    _check(config, vocab_size, {name: fact.shape for name, fact in facts.items()}, layout, folder)
    require_weights(facts, layout.buffers)
    read = TensorFiles(facts).read
    _check_copies(config, facts, layout, read, folder)
    files = (folder / CONFIG, *sorted({fact.path for fact in facts.values()}))
    return _source(folder, config, vocab_size, files, list(facts), layout, read)


def _open_gguf(path: Path) -> ModelSource:
    found = read_gguf(path)
    config, vocab_size, layout = read_architecture(found.values, path)
    _check_size(config, vocab_size, found.shapes, layout, path)
    _check(config, vocab_size, found.shapes, layout, path)
    return _source(path, config, vocab_size, (path,), list(found.shapes), layout, found.read)


def _source(
    path: Path,
    config: NetworkConfig,
    vocab_size: int,
    files: tuple[Path, ...],
    names: Sequence[str],
    layout: Layout,
    read: Callable[[str], Tensor],
) -> ModelSource:
    full, shapes = full_names(layout, config, names), own_shapes(config, vocab_size)
    parts = layout.parts_of(config, set(full.values()))
    theirs = {full[name]: name for name in names}
    where = {ours: tuple(theirs[name] for name in found) for ours, found in holders(parts).items()}

    def ours_in(name: str) -> Iterator[tuple[str, Tensor]]:
        return parts[full[name]].split(read(name), shapes)

    return ModelSource(path, config, vocab_size, files, where, shapes, ours_in)


def _check_size(
    config: NetworkConfig, vocab_size: int, found: Mapping[str, tuple[int, ...]], layout: Layout, where: Path
) -> None:
    """Compare what is described with what the headers declare, by count: a giant costs nothing.

    What is only some tensors too large is left to `_check`, which names one that is missing or of another shape.
    """
    layers = getattr(config, "num_layers", 0)
    if layers > len(found):
        raise fault(where, f"describes {layers:,} layers, the weight files hold {len(found)} tensors; copy them again")
    declared, described = sum(map(math.prod, found.values())), layout.parameters(config, vocab_size)
    if described > GIANT * declared:
        raise fault(
            where, f"describes {described:.4g} parameters, the weight files hold {declared:.4g}; copy them again"
        )


def _check(
    config: NetworkConfig, vocab_size: int, found: Mapping[str, tuple[int, ...]], layout: Layout, where: Path
) -> None:
    try:
        check_shapes(config, vocab_size, found, layout)
    except ModelFileError as error:
        raise fault(where, error.message) from None


def _check_copies(
    config: NetworkConfig, facts: Mapping[str, TensorFacts], layout: Layout, read: Callable[[str], Tensor], folder: Path
) -> None:
    """A tied model may bring a copy of a tensor, but no other numbers."""
    theirs = {full: name for name, full in full_names(layout, config, facts).items()}
    for copy, original in layout.copies(config).items():
        if copy in theirs and not torch.equal(read(theirs[copy]), read(theirs[original])):
            name = copy.removesuffix(".weight")
            raise fault(
                folder / CONFIG, f"tie_word_embeddings is true, but {name} differs from the table; export it again"
            )


@dataclass(frozen=True, eq=False)
class FittedSource(Mapping[str, Tensor]):
    """A source for another number of tokens, or a shorter context: rows added to its tables, or left out.

    What the file lacks, it lacks too.

    New rows are the mean of the old ones (Hewitt 2021, "Initializing new word embeddings"): a token that was never
    seen is then no more likely than others.
    """

    source: ModelSource
    shapes: Mapping[str, tuple[int, ...]]
    """Of the model to be filled."""

    def __getitem__(self, name: str) -> Tensor:
        tensor, rows = self.source[name], self.shapes[name][0]
        of_tokens = len(tensor) == self.source.vocab_size
        if len(tensor) == rows or not (of_tokens or name == Decoder.positions_name):
            return tensor
        if len(tensor) > rows:
            return tensor[:rows]
        if name == Decoder.positions_name:
            raise ModelFileError(
                f"the model has learned {len(tensor)} positions, model.context_length asks for {rows}; lower it"
            )
        mean = tensor.float().mean(0, keepdim=True).to(tensor.dtype)
        return torch.cat((tensor, mean.expand(rows - len(tensor), *tensor.shape[1:])))

    def __iter__(self) -> Iterator[str]:
        return (name for name in self.shapes if name not in self.source.lacking)

    def __len__(self) -> int:
        return sum(1 for _ in self)
