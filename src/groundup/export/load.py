"""A Hugging Face folder or a run -> a model that answers, after everything in the folder has been judged.

    folder or .gguf -> source (`groundup.export.source`): described, judged, finite -> model
    tokenizer.json -> tokenizer, as many tokens as the model has ; its chat template,
        when there is something to chat about, in a process that may do nothing else (`tokens.jinja_template`)

Invariant: nothing is allocated before config and headers agree, and no code that comes with a model is ever run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from groundup.errors import DataError, ModelFileError, RecipeError
from groundup.export.source import ModelSource, open_source
from groundup.export.weights import fault
from groundup.inference import Chat, Filling, GenerateConfig, Prediction, asked, fill_mask, predict, stream
from groundup.models import Encoder, EncoderConfig, Labeller, Network, build_model, causal
from groundup.tokens import Example, Tokenizer, load_foreign

TOKENIZER = "tokenizer.json"
VOCABULARY = "vocab.txt"


@dataclass(frozen=True)
class LoadedModel:
    """A model with its tokenizer, ready for use."""

    model: Network
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
        return stream(causal(self.model), tokenizer, prompt, config or GenerateConfig(), tokenizer.stop_ids)

    def generate(self, text: str, config: GenerateConfig | None = None) -> str:
        """As `stream`, the whole continuation at once."""
        return "".join(self.stream(text, config))

    def fill_mask(self, text: str, top_k: int = 5) -> list[list[Filling]]:
        """What an encoder would put into each [MASK] of `text`; RecipeError when there is none, or for a decoder."""
        if isinstance(self.model, Labeller):
            raise RecipeError("this model has a head for a task and fills no [MASK]; use the encoder it was made from")
        if not isinstance(self.model, Encoder):
            raise RecipeError("this model goes on with a text and fills no [MASK]; use a model of kind: encoder")
        return fill_mask(self.model, self.tokenizer, text, top_k)

    def predict(self, text: str | Sequence[str], pair: str | None = None, threshold: float | None = None) -> Prediction:
        """What a model with a head for a task says of `text`, or of a pair (of spans, `pair` is the question).

        A list of words is labelled word by word as it is. `threshold`: probability from which on a text has a label,
        where it may have several (0.5). RecipeError for a model without such a head.
        """
        return self.predict_all([asked(self.labeller.config.task, text, pair)], threshold)[0]

    def predict_all(self, examples: Sequence[Example], threshold: float | None = None) -> list[Prediction]:
        """As `predict`, of several (`groundup.inference.asked` makes them), computed together."""
        return predict(self.labeller, self.tokenizer, examples, threshold)

    @property
    def labeller(self) -> Labeller:
        """The model, if it has a head for a task. Raises RecipeError."""
        if isinstance(self.model, Labeller):
            return self.model
        does = (
            "fills gaps: generate TARGET --fill-mask" if isinstance(self.model, Encoder) else "writes: generate, chat"
        )
        raise RecipeError(f"this model has no head for labels, it {does}; train one with a `task:` section")

    def chat(self, config: GenerateConfig | None = None, system: str | None = None) -> Chat:
        """A new conversation."""
        return Chat(causal(self.model), self.tokenizer, config, system)


def load_model(path: Path | str, *, device: torch.device | str = "cpu", need_tokenizer: bool = True) -> LoadedModel:
    """The model of a Hugging Face folder (`groundup.models.LAYOUTS`), a run or a .gguf file, float32 on `device`.

    `need_tokenizer=False` takes a folder without tokenizer.json, or with one that is not ours, and a .gguf file too,
    for logits only. Raises ModelFileError naming
    file, finding and remedy when anything in it is missing, damaged, contradictory or asks for code to be run.
    """
    try:
        return _load(Path(path), torch.device(device), need_tokenizer)
    except OSError as error:
        raise fault(Path(path), f"cannot be read ({error.strerror}); check the path and its permissions") from None


def _load(path: Path, device: torch.device, need_tokenizer: bool) -> LoadedModel:
    source = open_source(path)
    folder = source.path
    require_whole(source)
    if need_tokenizer and not folder.is_dir():
        raise fault(folder, "a GGUF file's tokenizer is not ours; make a model folder of it with `groundup import`")
    tokenizer = _read_tokenizer(source) if need_tokenizer else _tokenizer_if_ours(source)
    with torch.device("meta"):
        model = build_model(source.config, source.vocab_size)
    state = {name: source[name].to(device, torch.float32) for name in source}
    model.load_state_dict(state, assign=True)
    return LoadedModel(model.eval().requires_grad_(False), folder, tokenizer)


def require_whole(source: ModelSource) -> None:
    """Raise ModelFileError for a body without heads, which says nothing by itself."""
    if source.lacking:
        raise fault(
            source.path,
            "a body without a head (BertModel), which says nothing by itself; train one on it by pretrain.from",
        )


def _tokenizer_if_ours(source: ModelSource) -> Tokenizer | None:
    try:
        return _read_tokenizer(source)
    except ModelFileError:
        return None


def _read_tokenizer(source: ModelSource) -> Tokenizer:
    folder = source.path
    path = folder / TOKENIZER
    if path.exists() and not path.is_file():
        raise fault(path, "no regular file; copy the folder again")
    bare = isinstance(source.config, EncoderConfig) and not path.exists() and (folder / VOCABULARY).is_file()
    tokenizer = load_foreign(folder / VOCABULARY)[0] if bare else Tokenizer.load(folder)
    if tokenizer.vocab_size != source.vocab_size:
        raise fault(
            path, f"{tokenizer.vocab_size} tokens, the model has {source.vocab_size}; use the one it was trained with"
        )
    if not isinstance(source.config, EncoderConfig) and not tokenizer.lossless:
        raise fault(path, "WordPiece changes text, so this model could not write it; use the one it was trained with")
    if tokenizer.jinja is not None:
        tokenizer.jinja.judge(tokenizer)
    return tokenizer
