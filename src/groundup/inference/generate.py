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
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import torch
from pydantic import Field

from groundup.config import Config
from groundup.errors import RecipeError
from groundup.inference.sequences import Running, Sampling, run_sequences
from groundup.models import CausalNetwork
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
    model: CausalNetwork,
    tokenizer: Tokenizer,
    prompt_ids: Sequence[int],
    config: GenerateConfig,
    stop_ids: Collection[int],
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
    model: CausalNetwork, prompt_ids: Sequence[int], config: GenerateConfig, stop_ids: Collection[int]
) -> Iterator[int]:
    """New ids after `prompt_ids`, one by one, without the stop id. Raises as `stream`."""
    for _, token in run_sequences(model, [_sequence(model, 0, prompt_ids, config)], _sampling(config), max_running=1):
        if token in stop_ids:
            return
        yield token


def generate_batch(
    model: CausalNetwork,
    prompts: Sequence[Sequence[int]],
    config: GenerateConfig,
    stop_ids: Collection[int],
    batch_rows: int = BATCH_ROWS,
    advance: Callable[[int], None] | None = None,
    ended: Callable[[Sequence[int]], bool] | None = None,
) -> list[list[int]]:
    """The answer ids of every prompt, in the order of `prompts`, each as it would come out alone.

    `batch_rows` prompts run at a time. `advance(n)` is called when n more prompts are done. `ended` is asked, with the
    answer so far, whether nothing of what comes is wanted. Raises as `stream`.
    """
    sequences = [_sequence(model, index, prompt, config) for index, prompt in enumerate(prompts)]
    answers: list[list[int]] = [[] for _ in prompts]
    for sequence, token in run_sequences(model, sequences, _sampling(config), batch_rows):
        if token in stop_ids:
            sequence.stop()
        else:
            answers[sequence.index].append(token)
            if ended and ended(answers[sequence.index]):
                sequence.stop()
        if advance and sequence.room == 0:
            advance(1)
    return answers


def _sequence(model: CausalNetwork, index: int, prompt: Sequence[int], config: GenerateConfig) -> Running:
    length, context_length = len(prompt), model.config.context_length
    if not 0 < length < context_length:
        raise RecipeError(
            f"a prompt of {length} tokens: the model's context holds {context_length} with the answer; "
            f"give 1 to {context_length - 1} tokens"
        )
    generator = torch.Generator().manual_seed(_seed(config.seed, index))
    return Running(index, list(prompt), min(config.max_new_tokens, context_length - length), generator)


def _sampling(config: GenerateConfig) -> Sampling:
    return Sampling(config.temperature, config.top_k, config.top_p, config.repetition_penalty)


def _seed(seed: int, index: int) -> int:
    """63 bits from the config's seed and the prompt's position, so that rows do not share their random numbers."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}".encode()).digest()[:8], "little") >> 1
