"""A Hugging Face folder or a run -> a model that answers, after everything in the folder has been judged.

    config.json -> architecture ; weight headers -> names, shapes ; both agree? -> read weights -> finite? -> model
    tokenizer.json -> tokenizer, as many tokens as the model has ; chat template -> the one this package applies

Invariant: nothing is allocated before config and headers agree, and nothing that comes with a model is ever run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from groundup.errors import DataError, ModelFileError, RecipeError
from groundup.export.architecture import read_architecture
from groundup.export.bert_architecture import MODEL_TYPE, read_bert_architecture
from groundup.export.weights import TensorFacts, fault, find_weights, read_json, read_tensors
from groundup.inference import Chat, Filling, GenerateConfig, fill_mask, stream
from groundup.models import (
    Decoder,
    DecoderConfig,
    Encoder,
    EncoderConfig,
    bert,
    build_model,
    from_bert,
    from_huggingface,
)
from groundup.tokens import CHAT_TEMPLATE, Tokenizer

CONFIG = "config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
TOKENIZER = "tokenizer.json"
TEMPLATE = "chat_template.jinja"
TEMPLATE_LIMIT_BYTES = 1_000_000
TABLE, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@dataclass(frozen=True)
class LoadedModel:
    """A model with its tokenizer, ready for use."""

    model: Decoder | Encoder
    folder: Path
    loaded_tokenizer: Tokenizer | None

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer; raises ModelFileError when the model was loaded without one."""
        if self.loaded_tokenizer is None:
            raise fault(
                self.folder, "loaded without a tokenizer, so it reads and writes no text; give it a tokenizer.json"
            )
        return self.loaded_tokenizer

    @torch.inference_mode()
    def logits(self, tokens: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time vocab"]:
        """Scores of the next token (of an encoder: of the token itself) at every position, float32.

        Raises DataError on ids outside the vocabulary.
        """
        if tokens.ndim != 2 or tokens.numel() == 0 or tokens.is_floating_point():
            raise DataError(f"tokens of shape {list(tokens.shape)} ({tokens.dtype}): give whole numbers [batch, time]")
        if tokens.min() < 0 or tokens.max() >= self.model.vocab_size:
            raise DataError(
                f"token ids reach {int(tokens.min())} to {int(tokens.max())}: ids are 0 to {self.model.vocab_size - 1}"
            )
        logits = self.model(tokens.long().to(next(self.model.parameters()).device))
        assert isinstance(logits, Tensor), "without targets a model gives logits"
        return logits

    def stream(self, text: str, config: GenerateConfig | None = None) -> Iterator[str]:
        """Go on with a document that begins with `text`, piece by piece; RecipeError when it fills the context."""
        tokenizer = self.tokenizer
        prompt = tokenizer.document_prompt(text)
        return stream(self._decoder(), tokenizer, prompt, config or GenerateConfig(), tokenizer.stop_ids)

    def generate(self, text: str, config: GenerateConfig | None = None) -> str:
        """As `stream`, the whole continuation at once."""
        return "".join(self.stream(text, config))

    def fill_mask(self, text: str, top_k: int = 5) -> list[list[Filling]]:
        """What an encoder would put into each [MASK] of `text`; RecipeError when there is none, or for a decoder."""
        if not isinstance(self.model, Encoder):
            raise RecipeError("this model is a decoder, which goes on with a text and fills no [MASK]; use an encoder")
        return fill_mask(self.model, self.tokenizer, text, top_k)

    def _decoder(self) -> Decoder:
        if not isinstance(self.model, Decoder):
            raise RecipeError(
                'an encoder goes on with no text; have it fill gaps: generate TARGET --fill-mask "The [MASK] ..."'
            )
        return self.model

    def chat(self, config: GenerateConfig | None = None, system: str | None = None) -> Chat:
        """A new conversation."""
        return Chat(self._decoder(), self.tokenizer, config, system)


def load_model(path: Path | str, *, device: torch.device | str = "cpu", need_tokenizer: bool = True) -> LoadedModel:
    """The model of a Hugging Face folder (Llama, Qwen3 or BERT layout) or of a run, float32 weights on `device`.

    `need_tokenizer=False` takes a folder without tokenizer.json too, for logits only. Raises ModelFileError naming
    file, finding and remedy when anything in it is missing, damaged, contradictory or asks for code to be run.
    """
    try:
        return _load(Path(path), torch.device(device), need_tokenizer)
    except OSError as error:
        raise fault(Path(path), f"cannot be read ({error.strerror}); check the path and its permissions") from None


def _load(path: Path, device: torch.device, need_tokenizer: bool) -> LoadedModel:
    folder = model_folder(path)
    values = read_json(folder / CONFIG)
    config, vocab_size = _read_architecture(values, folder / CONFIG)
    facts = find_weights(folder)
    _check_weights(config, vocab_size, facts, folder)
    tokenizer = _read_tokenizer(folder, vocab_size, need_tokenizer)
    with torch.device("meta"):
        model = build_model(config, vocab_size)
    tensors = read_tensors(facts)
    _check_tied(config, tensors, folder)
    state = _state(config, vocab_size, tensors)
    model.load_state_dict({name: tensor.to(device, torch.float32) for name, tensor in state.items()}, assign=True)
    return LoadedModel(model.eval().requires_grad_(False), folder, tokenizer)


def _read_architecture(values: Mapping[str, Any], where: Path) -> tuple[DecoderConfig | EncoderConfig, int]:
    if values.get("model_type") == MODEL_TYPE:
        return read_bert_architecture(values, where)
    return read_architecture(values, where)


def _check_tied(config: DecoderConfig | EncoderConfig, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """A tied model that brings a copy of its table must bring the same numbers."""
    table, head = (TABLE, HEAD) if isinstance(config, DecoderConfig) else (bert.TABLE, bert.TABLE_COPY)
    if config.tied and head in tensors and not torch.equal(tensors[head], tensors[table]):
        what = "lm_head" if head == HEAD else head
        raise fault(folder / CONFIG, f"tie_word_embeddings is true, but {what} differs from the table; export it again")


def _state(config: DecoderConfig | EncoderConfig, vocab_size: int, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if isinstance(config, EncoderConfig):
        return from_bert(config, vocab_size, tensors)
    return from_huggingface(config, vocab_size, tensors)


def model_folder(path: Path) -> Path:
    """`path` itself, or its `model` when it is a run. Raises ModelFileError when neither holds a config.json."""
    for folder in (path, path / "model"):
        if (folder / CONFIG).is_file():
            return folder
    if not path.is_dir():
        what = "is a file" if path.exists() else "is not there"
        raise fault(path, f"{what}; give the folder of a Hugging Face model, or of a run (work/runs/<name>)")
    if (path / "recipe.yaml").is_file():
        raise fault(path, "a run without an exported model so far; finish it with `groundup run` and its recipe")
    raise fault(path, f"no {CONFIG} here, so this is no model; give a folder with a Hugging Face model, or a run")


def _check_weights(
    config: DecoderConfig | EncoderConfig, vocab_size: int, facts: Mapping[str, TensorFacts], folder: Path
) -> None:
    """Compare what config.json describes with what the headers declare; first by count, so a giant costs nothing."""
    declared, described = sum(math.prod(fact.shape) for fact in facts.values()), config.num_parameters(vocab_size)
    if described > declared or config.num_layers > len(facts):
        raise fault(
            folder / CONFIG,
            f"describes {described:.4g} parameters, the weight files hold {declared:.4g}; copy them again",
        )
    try:
        _state(config, vocab_size, {name: torch.empty(f.shape, device="meta") for name, f in facts.items()})
    except ModelFileError as error:
        raise fault(folder, error.message) from None


def _read_tokenizer(folder: Path, vocab_size: int, needed: bool) -> Tokenizer | None:
    path = folder / TOKENIZER
    if not needed and not path.exists():
        return None
    if path.exists() and not path.is_file():
        raise fault(path, "no regular file; copy the folder again")
    _check_template(folder)
    tokenizer = Tokenizer.load(folder)
    if tokenizer.vocab_size != vocab_size:
        raise fault(path, f"{tokenizer.vocab_size} tokens, the model has {vocab_size}; use the one it was trained with")
    return tokenizer


def _check_template(folder: Path) -> None:
    """A chat template that comes with a model is program text: it is compared with our own, never rendered."""
    if (folder / TOKENIZER_CONFIG).is_file():
        _compare_template(read_json(folder / TOKENIZER_CONFIG).get("chat_template"), folder / TOKENIZER_CONFIG)
    path = folder / TEMPLATE
    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as handle:
            _compare_template(handle.read(TEMPLATE_LIMIT_BYTES), path)


def _compare_template(template: object, where: Path) -> None:
    if template is not None and str(template).strip() != CHAT_TEMPLATE.strip():
        raise fault(where, "its chat template is not Groundup's, and foreign ones are not run; use a model made here")
