"""A trained model and its tokenizer -> a folder that transformers' Auto classes open without custom code.

    config.json  model.safetensors  generation_config.json     from the model
    tokenizer.json  tokenizer_config.json  chat_template.jinja  from the tokenizer

A kind that has no layout there goes into a folder of Groundup's own (`models.layouts.own`); transformers is not asked.

Invariant: config.json is written last and taken away again when the check fails, so a folder that has one is whole and
gives the model's logits. The same model gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import singledispatch
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from groundup.config import Config
from groundup.errors import resource_errors
from groundup.export.check import check_built
from groundup.export.load import LoadedModel
from groundup.export.source import CONFIG
from groundup.export.write import write_weights
from groundup.models import EncoderConfig, Network, NetworkConfig, huggingface_config
from groundup.stage import fsync_folder, write_json
from groundup.tokens import Tokenizer

TORCH_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class ExportConfig(Config):
    """How the model is written, and how other engines are advised to sample from it."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the weights in the file; bfloat16 halves it and rounds."""
    temperature: float = Field(default=0.5, ge=0.0, le=10.0)
    """For generation_config.json: 0 always takes the most likely token, 1 the model's own probabilities."""
    top_p: float = Field(default=0.9, gt=0.0, le=1.0)
    """For generation_config.json: draw from the smallest set of tokens that holds this much of the probability."""
    max_shard_bytes: int = Field(default=5_000_000_000, ge=1)
    """Weights of more bytes are divided over several files with an index, each of at most so many."""


@singledispatch
def save_model(
    model: Network | LoadedModel,
    tokenizer: Tokenizer,
    folder: Path | str,
    config: ExportConfig | None = None,
    with_transformers: bool = True,
) -> dict[str, Any]:
    """Write `folder` (made if need be; files of these names are replaced), reload it and compare logits.

    A `LoadedModel` brings its tokenizer: `save_model(loaded, folder)`. `with_transformers=False` leaves out the
    comparison with transformers, whose import takes some ten seconds. Returns {dtype, parameters, bytes, checks}.
    Raises ModelFileError when the check fails, ResourceError when the disk refuses.
    """
    if not isinstance(model, Network):
        raise TypeError(f"save_model takes a model or LoadedModel, not a {type(model).__name__}")
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    return save_weights(
        model.config, model.vocab_size, state, lambda: model, tokenizer, Path(folder), config, with_transformers
    )


def save_weights(
    model: NetworkConfig,
    vocab_size: int,
    weights: Mapping[str, Tensor],
    build: Callable[[], Network],
    tokenizer: Tokenizer,
    folder: Path,
    config: ExportConfig | None = None,
    with_transformers: bool = True,
) -> dict[str, Any]:
    """As `save_model`, from weights that may be read as they are asked for: one tensor at a time is held.

    `build`: the model with these weights, made only to compare with, and let go before the folder is read back.
    """
    config = config or ExportConfig()
    with resource_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).unlink(missing_ok=True)
        write_weights(model, vocab_size, weights, folder, TORCH_DTYPES[config.dtype], config.max_shard_bytes)
        write_descriptions(model, tokenizer, folder, config)
    try:
        checks = check_built(folder, build, tokenizer, config.dtype, with_transformers=with_transformers)
    except BaseException:
        (folder / CONFIG).unlink(missing_ok=True)
        raise
    return {
        "dtype": config.dtype,
        "parameters": model.num_parameters(vocab_size),
        "bytes": sum(path.stat().st_size for path in folder.iterdir() if path.is_file()),
        "checks": checks,
    }


@save_model.register
def _save_loaded(
    model: LoadedModel, folder: Path | str, config: ExportConfig | None = None, with_transformers: bool = True
) -> dict[str, Any]:
    """`save_model(loaded, folder)`: a loaded model brings its tokenizer."""
    return save_model(model.model, model.tokenizer, folder, config, with_transformers)


def write_descriptions(model: NetworkConfig, tokenizer: Tokenizer, folder: Path, config: ExportConfig) -> None:
    """Everything but the weights; config.json last."""
    tokenizer.save(folder, model.context_length)
    if not isinstance(model, EncoderConfig):
        write_json(folder / "generation_config.json", _generation_config(model, tokenizer, config))
    write_json(folder / CONFIG, _model_config(model, tokenizer, config))
    fsync_folder(folder)


def _model_config(model: NetworkConfig, tokenizer: Tokenizer, config: ExportConfig) -> dict[str, Any]:
    if isinstance(model, EncoderConfig):
        pad_id = tokenizer.need_encoder_ids().pad
        return huggingface_config(model, tokenizer.vocab_size, pad_token_id=pad_id, dtype=config.dtype)
    return huggingface_config(
        model,
        tokenizer.vocab_size,
        bos_token_id=tokenizer.beginning_id,
        eos_token_id=_stop_ids(tokenizer),
        pad_token_id=tokenizer.end_of_text_id,
        dtype=config.dtype,
    )


def _stop_ids(tokenizer: Tokenizer) -> list[int]:
    return [tokenizer.turn_end_id, *sorted(tokenizer.stop_ids - {tokenizer.turn_end_id})]


def _generation_config(model: NetworkConfig, tokenizer: Tokenizer, config: ExportConfig) -> dict[str, Any]:
    """What engines do when they are told nothing: stop at the end of a turn, never pass the trained context."""
    sampling = {"do_sample": True, "temperature": config.temperature, "top_p": config.top_p}
    return {
        "bos_token_id": tokenizer.beginning_id,
        "eos_token_id": _stop_ids(tokenizer),
        "pad_token_id": tokenizer.end_of_text_id,
        "max_new_tokens": model.context_length // 2,
        **(sampling if config.temperature > 0 else {"do_sample": False}),
    }
