"""Prompt ids -> new ids or text, by one prefill and then one decode a token.

    prompt ids --prefill--> logits --sample--> id --decode--> logits --sample--> id ... until a stop id,
                                               |              max_new_tokens, or the context is full
                                               +--> bytes --> UTF-8 decoder --> pieces of text

Invariant: prompt plus answer never exceed `context_length`, the positions the model was trained on; a piece of text
never holds half a character.
"""

from __future__ import annotations

import codecs
import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import torch
from pydantic import Field
from torch import Tensor

from groundup.config import Config
from groundup.errors import RecipeError
from groundup.inference.cache import Cache
from groundup.inference.sampling import penalise, sample
from groundup.models import Decoder
from groundup.tokens import Tokenizer

BATCH_ROWS = 64


class GenerateConfig(Config):
    """How the next token is chosen and when to stop. Temperature 0 is greedy and needs no seed."""

    max_new_tokens: int = Field(default=256, ge=1, le=1_000_000)
    """Longest answer; a full context ends it earlier."""
    temperature: float = Field(default=0.0, ge=0.0, le=10.0)
    """0: always the most likely token; 1: the model's own probabilities; between: bolder as it grows."""
    top_k: int = Field(default=0, ge=0)
    """Draw from the k most likely tokens only; 0: from all."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Draw from the smallest set of tokens that holds this much of the probability; 1: from all."""
    repetition_penalty: float = Field(default=1.0, ge=1.0, le=10.0)
    """Above 1: tokens of the prompt and of the answer so far become less likely."""
    seed: int = Field(default=0, ge=0)
    """Start of the random numbers; each prompt of a batch has its own."""


def stream(
    model: Decoder, tokenizer: Tokenizer, prompt_ids: Sequence[int], config: GenerateConfig, stop_ids: Collection[int]
) -> Iterator[str]:
    """Pieces of text after `prompt_ids`, as they are generated; bytes wait until they are whole characters.

    Raises RecipeError when the prompt is empty or leaves no room in the context.
    """
    return decode_pieces(tokenizer, generate_ids(model, prompt_ids, config, stop_ids))


def decode_pieces(tokenizer: Tokenizer, ids: Iterable[int]) -> Iterator[str]:
    """Ids -> pieces of text; bytes that can never become a character are shown as U+FFFD."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for token in ids:
        if piece := decoder.decode(tokenizer.decode_bytes([token])):
            yield piece
    if piece := decoder.decode(b"", final=True):
        yield piece


def generate_ids(
    model: Decoder, prompt_ids: Sequence[int], config: GenerateConfig, stop_ids: Collection[int]
) -> Iterator[int]:
    """New ids after `prompt_ids`, one by one, without the stop id. Raises as `stream`."""
    batch = _Batch(model, [0], [prompt_ids], config)
    while batch.room > 0:
        token = batch.step()[0]
        if token in stop_ids:
            return
        yield token


def generate_batch(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    config: GenerateConfig,
    stop_ids: Collection[int],
    batch_rows: int = BATCH_ROWS,
    advance: Callable[[int], None] | None = None,
) -> list[list[int]]:
    """The answer ids of every prompt, in the order of `prompts`, each as it would come out alone.

    Prompts of equal length share a batch, so nothing is padded and a row's positions are those it has alone.
    `advance(n)` is called when n more prompts are done. Raises as `stream`.
    """
    by_length: defaultdict[int, list[int]] = defaultdict(list)
    for index, prompt in enumerate(prompts):
        by_length[len(prompt)].append(index)
    answers: list[list[int]] = [[] for _ in prompts]
    for _, indices in sorted(by_length.items(), reverse=True):
        for start in range(0, len(indices), batch_rows):
            chosen = indices[start : start + batch_rows]
            _finish(_Batch(model, chosen, [prompts[i] for i in chosen], config), stop_ids, answers)
            if advance:
                advance(len(chosen))
    return answers


def _finish(batch: _Batch, stop_ids: Collection[int], answers: list[list[int]]) -> None:
    """Run a batch until every row has stopped. Stopped rows are computed on until it pays to drop them."""
    running = set(batch.indices)
    while running and batch.room > 0:
        for index, token in zip(batch.indices, batch.step()):
            if index not in running:
                continue
            if token in stop_ids:
                running.remove(index)
            else:
                answers[index].append(token)
        if running and len(running) <= 0.75 * len(batch.indices):
            batch.keep([row for row, index in enumerate(batch.indices) if index in running])


class _Batch:
    """Prompts of one length under way: `step` yields the next id of each row."""

    def __init__(
        self, model: Decoder, indices: list[int], prompts: Sequence[Sequence[int]], config: GenerateConfig
    ) -> None:
        length, context_length = len(prompts[0]), model.config.context_length
        if not 0 < length < context_length:
            raise RecipeError(
                f"a prompt of {length} tokens: the model's context holds {context_length} with the answer; "
                f"give 1 to {context_length - 1} tokens"
            )
        self.indices = indices
        self.room = min(config.max_new_tokens, context_length - length)
        self._model, self._config = model, config
        self._seen = [list(prompt) for prompt in prompts]
        self._generators = [torch.Generator().manual_seed(_seed(config.seed, index)) for index in indices]
        self._cache = Cache.for_model(model, len(prompts), length + self.room)
        self._next: Tensor | None = None

    @torch.inference_mode()
    def step(self) -> list[int]:
        """Choose the next id of every row. What was chosen before is decoded first (the prompt: prefilled)."""
        model, config = self._model, self._config
        device = self._cache.keys[0].device
        if self._next is None:
            logits = model.prefill(torch.tensor(self._seen, dtype=torch.int64, device=device), self._cache)
        else:
            logits = model.decode(self._next[:, None], self._cache)
        logits = penalise(logits.float(), self._seen, config.repetition_penalty)
        self._next = sample(logits, self._generators, config.temperature, config.top_k, config.top_p)
        self.room -= 1
        ids: list[int] = self._next.tolist()
        for seen, token in zip(self._seen, ids):
            seen.append(token)
        return ids

    @torch.inference_mode()
    def keep(self, rows: list[int]) -> None:
        """Go on with these rows only."""
        chosen = torch.tensor(rows, dtype=torch.int64, device=self._cache.keys[0].device)
        self._cache.keep(chosen)
        if self._next is not None:
            self._next = self._next[chosen]
        self.indices = [self.indices[row] for row in rows]
        self._seen = [self._seen[row] for row in rows]
        self._generators = [self._generators[row] for row in rows]


def _seed(seed: int, index: int) -> int:
    """63 bits from the config's seed and the prompt's position, so that rows do not share their random numbers."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}".encode()).digest()[:8], "little") >> 1
