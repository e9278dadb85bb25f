"""Prompts under way -> (sequence, next token) pairs, many sequences at a time.

    packed weights   every call takes one token of each running sequence and, as far as there is room for more rows,
                     pieces of prompts; a sequence that ends leaves its slot to the next that waits
    else             prompts of equal length go together, until most of them have ended

Invariant: the tokens of a sequence are those that it gets alone; the caller ends one by `stop`, at any time.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

import torch
from jaxtyping import Float
from torch import Tensor

from groundup.inference.sampling import penalise, sample
from groundup.inference.serving import serving_form
from groundup.kernels.decode import PackedDecoder, Room, Span
from groundup.models import CausalNetwork, Decoder, DecoderConfig
from groundup.models.rotary import scaled_rotation

CALL_ROWS = 256
"""Tokens that one call takes: enough for full speed of the products, few enough to stay in the second cache."""
CACHE_LIMIT_BYTES = 2**30
"""Keys and values of all slots; longer sequences get fewer slots."""
KEEP_SHARE = 0.75
"""Without packed weights: stopped sequences are computed on until fewer than this share of the batch runs."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen from its logits; see `GenerateConfig`."""

    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float


@dataclass
class Running:
    """One prompt with what came after it: `tokens` grows by one for each of the `room` tokens that may still come."""

    index: int
    tokens: list[int]
    room: int
    generator: torch.Generator

    def take(self, token: int) -> None:
        """Append the next token."""
        self.tokens.append(token)
        self.room -= 1

    def stop(self) -> None:
        """Ask for no more tokens."""
        self.room = 0


def run_sequences(
    model: CausalNetwork, sequences: Sequence[Running], sampling: Sampling, max_running: int
) -> Iterator[tuple[Running, int]]:
    """Each sequence with each of its next tokens, until all have no more room; at most `max_running` at a time."""
    sequences = [sequence for sequence in sequences if sequence.room > 0]
    if not sequences:
        return
    form = serving_form(model)
    if isinstance(form, PackedDecoder):
        assert isinstance(model, Decoder), "only decoders are packed"
        yield from _Flow(form, model.config, sequences, sampling, max_running).run()
        return
    by_length: defaultdict[int, list[Running]] = defaultdict(list)
    for sequence in sequences:
        by_length[len(sequence.tokens)].append(sequence)
    for _, equal in sorted(by_length.items(), reverse=True):
        for start in range(0, len(equal), max_running):
            yield from _run_equal(form, equal[start : start + max_running], sampling)


def choose(
    logits: Float[Tensor, "rows vocab"], sequences: Iterable[Running], sampling: Sampling
) -> list[tuple[Running, int]]:
    """The next token of each sequence, taken by it."""
    chosen = list(sequences)
    logits = penalise(logits.float(), [sequence.tokens for sequence in chosen], sampling.repetition_penalty)
    generators = [sequence.generator for sequence in chosen]
    ids = sample(logits, generators, sampling.temperature, sampling.top_k, sampling.top_p)
    pairs = list(zip(chosen, ids.tolist()))
    for sequence, token in pairs:
        sequence.take(token)
    return pairs


@dataclass
class _Slot:
    """A place in the cache: whose it is, and how many of the sequence's tokens are in it."""

    number: int
    sequence: Running
    written: int = 0

    @property
    def pending(self) -> int:
        return len(self.sequence.tokens) - self.written


class _Flow:
    """Sequences through a packed decoder, each in a slot of its own as long as it runs."""

    def __init__(
        self,
        decoder: PackedDecoder,
        config: DecoderConfig,
        sequences: Sequence[Running],
        sampling: Sampling,
        max_running: int,
    ) -> None:
        # The longest first, so that not one long answer is left at the end.
        self._waiting = deque(sorted(sequences, key=lambda sequence: -len(sequence.tokens) - sequence.room))
        self._sampling = sampling
        max_time = max(len(sequence.tokens) + sequence.room for sequence in sequences)
        affordable = CACHE_LIMIT_BYTES // decoder.slot_bytes(max_time)
        slots = max(1, min(max_running, len(sequences), affordable))
        self._rows = min(max(CALL_ROWS, 2 * slots), slots * max_time)
        self._room = _room(decoder, config, slots, max_time, self._rows)
        self._free = list(range(slots))
        self._running: list[_Slot] = []

    def run(self) -> Iterator[tuple[Running, int]]:
        """All sequences to their ends."""
        while self._waiting or self._running:
            while self._waiting and self._free:
                self._running.append(_Slot(self._free.pop(), self._waiting.popleft()))
            yield from self._step()
            self._free += [slot.number for slot in self._running if slot.sequence.room <= 0]
            self._running = [slot for slot in self._running if slot.sequence.room > 0]

    @torch.inference_mode()
    def _step(self) -> list[tuple[Running, int]]:
        """One call: what is pending of each sequence, shortest first, as far as there are rows."""
        left, spans, ready = self._rows, [], []
        for pending, slot in self._by_pending():
            if left == 0:
                break
            count = min(pending, left)
            spans.append(Span(slot.number, slot.written, slot.sequence.tokens[slot.written : slot.written + count]))
            slot.written += count
            left -= count
            if count == pending:
                ready.append((len(spans) - 1, slot.sequence))
        logits = self._room.advance(spans)
        if len(ready) < len(spans):
            logits = logits[[row for row, _ in ready]]
        return choose(logits, [sequence for _, sequence in ready], self._sampling) if ready else []

    def _by_pending(self) -> list[tuple[int, _Slot]]:
        """Running slots with their numbers of pending tokens, the fewest first."""
        pending = [(slot.pending, slot) for slot in self._running]
        return sorted(pending, key=itemgetter(0))


def _room(decoder: PackedDecoder, config: DecoderConfig, slots: int, max_time: int, rows: int) -> Room:
    cosines, sines = scaled_rotation(
        torch.arange(max_time)[None],
        config.head_size,
        config.rope_theta,
        config.rope_scaling,
        context_length=config.context_length,
        length=max_time,
    )
    return decoder.room(slots, max_time, rows, cosines[0, 0], sines[0, 0])


def _run_equal(model: CausalNetwork, sequences: list[Running], sampling: Sampling) -> Iterator[tuple[Running, int]]:
    """Prompts of one length through `model`, in step."""
    device = next(model.parameters()).device
    max_time = max(len(sequence.tokens) + sequence.room for sequence in sequences)
    rows = len(sequences)
    cache = model.new_cache(rows, max_time)
    while any(sequence.room > 0 for sequence in sequences):
        running = [row for row, sequence in enumerate(sequences) if sequence.room > 0]
        if len(running) <= KEEP_SHARE * len(sequences):
            cache.keep(torch.tensor(running, device=device))
            sequences = [sequences[row] for row in running]
        new = [sequence.tokens[cache.length :] for sequence in sequences]
        with torch.inference_mode():
            logits = model.prefill(torch.tensor(new, device=device), cache)
            pairs = choose(logits, sequences, sampling)
        yield from (pair for pair in pairs if pair[0].room >= 0)
