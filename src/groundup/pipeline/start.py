"""`pretrain.from`: a model from elsewhere as the start of a run.

    recipe's values + the files --described--> `model:` as the files have it, `tokenizer.path` of its folder
    files --foreign_start--> weights for the recipe's model: a row for each token of its tokenizer, read one at a time,
                             and heads that the files have not, at their starting values

Invariant: what a recipe says of the model's shape is never changed silently: where files and recipe differ, both values
are named. The identity of such a start is the content of the files, wherever they lie.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from groundup import config
from groundup.errors import RecipeError
from groundup.export import FittedSource, open_source
from groundup.models import (
    DecoderConfig,
    EncoderConfig,
    LabellerConfig,
    Network,
    NetworkConfig,
    build_model,
    own_shapes,
)

SHAPE = (
    *("kind", "num_layers", "hidden_size", "num_heads", "num_kv_heads", "head_dim", "ffn_size", "qk_norm", "positions"),
    *("norm", "norm_placement", "activation", "gated", "attention_bias", "ffn_bias", "tied", "scale_embedding"),
    *("embedding_norm", "values", "num_parts"),
)
"""Fields that the weights decide; the others (context, rotary base, windows, dropout) may be changed by a recipe."""

REQUIRED = {
    kind: {name for name, field in config.fields(cls).items() if field.is_required()}
    for kind, cls in (("decoder", DecoderConfig), ("encoder", EncoderConfig))
}
"""Kind of model -> fields that a recipe must give when nothing fills them in."""


def described(values: dict[str, Any]) -> dict[str, Any]:
    """A recipe's values with the model and the tokenizer of `pretrain.from` filled in. Raises ModelFileError.

    A recipe that says all of its model itself can be looked at where the files are not; only running it needs them.
    """
    pretrain, given = values.get("pretrain"), values.get("model", {})
    path = pretrain.get("from") if isinstance(pretrain, dict) else None
    if not isinstance(path, str) or not isinstance(given, dict):
        return values
    required = REQUIRED.get(str(given.get("kind", "decoder")))
    if required is not None and given.keys() >= required and not Path(path).exists():
        return values
    source = open_source(Path(path))
    if isinstance(source.config, LabellerConfig):
        raise RecipeError("pretrain.from: that is a model of a task; give the encoder that it was made from")
    found = config.to_dict(source.config)
    for key in SHAPE:
        if key in given and given[key] != found.get(key):
            raise RecipeError(
                f"model.{key}: {str(given[key])[:30]}, but pretrain.from has {str(found.get(key))[:30]}; leave it out"
            )
    if given.get("next_sentence") and not found.get("next_sentence"):
        raise RecipeError("model.next_sentence: true, but pretrain.from has no head for pairs; leave it out")
    values["model"] = {**found, **given}
    tokenizer = values.setdefault("tokenizer", {})
    if isinstance(tokenizer, dict) and tokenizer.get("path") is None and source.path.is_dir():
        tokenizer["path"] = str(source.path)
    return values


def require_start(path: str | None, tokenizer_path: str | None) -> None:
    """Raise, before any work is done, when the model to start from cannot be used with the recipe's tokenizer."""
    if path is None:
        return
    open_source(Path(path))
    if tokenizer_path is None:
        raise RecipeError(
            "tokenizer.path: pretrain.from needs that model's own tokenizer; name it, or `groundup import` the model"
        )


def start_identity(path: str) -> str:
    """Hash of the files that decide the start."""
    return open_source(Path(path)).identity()


@dataclass(frozen=True, eq=False)
class ForeignStart(Mapping[str, Tensor]):
    """Weights by name, each read when asked for; what the file lacks (a body's heads) begins as the seed says."""

    found: FittedSource
    model: Network
    """On the device "meta"."""
    seed: int

    @property
    def rows_in_file(self) -> int:
        """Rows of the file's own table."""
        return self.found.source.vocab_size

    @property
    def new(self) -> list[str]:
        """Names of what begins anew."""
        return [name for name in self.found.shapes if name in self.found.source.lacking]

    def __getitem__(self, name: str) -> Tensor:
        if name in self.found.source.lacking:
            return self.model.start(name, torch.Size(self.found.shapes[name]), self.seed)
        return self.found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.found.shapes)

    def __len__(self) -> int:
        return len(self.found.shapes)


def foreign_start(path: str, model: NetworkConfig, vocab_size: int, seed: int) -> ForeignStart:
    """Weights for all of `model`, from the files as far as they have them."""
    with torch.device("meta"):
        built = build_model(model, vocab_size)
    return ForeignStart(FittedSource(open_source(Path(path)), own_shapes(model, vocab_size)), built, seed)
