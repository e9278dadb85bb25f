"""Contexts with continuations, as token ids -> log-probability of each continuation, and whether it is the likeliest.

    requests of one context --its tokens once, into a cache--> copies of the cache --each continuation--> states
    all others              --by length, padded at the end---> states
    states of the continuations only --head, in pieces--> log-probabilities of their tokens

Invariant: a request's score depends on its own tokens only, up to rounding; memory is bounded by the two limits below
whatever the number of requests.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Float
from torch import Tensor

from groundup.models import CausalNetwork, Decoder

BATCH_TOKENS = 4096
BATCH_LOGITS = 1 << 24
"""At most this many logits at a time, so that a large vocabulary does not need much memory (one token in any case)."""
SHARED_TOKENS = 8
"""A shorter context is not worth a cache."""


@dataclass(frozen=True)
class Request:
    """What is given and what follows it; neither is empty."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]

    def fitted(self, context_length: int) -> Request:
        """With as much of the end of the context as fits (as in lm-eval, the last token is predicted, not read)."""
        room = context_length + 1 - len(self.continuation)
        return self if len(self.context) <= room else Request(self.context[-room:], self.continuation)

    @property
    def read(self) -> tuple[int, ...]:
        """The tokens that a model reads: all but the last."""
        return (self.context + self.continuation)[:-1]


@dataclass(frozen=True)
class Score:
    """Natural log-probability of a continuation, and whether greedy choice would give it."""

    log_likelihood: float
    is_greedy: bool


def score(
    model: CausalNetwork, requests: Sequence[Request], advance: Callable[[int], None] | None = None
) -> list[Score]:
    """The score of every request, in order. Contexts that are too long lose their beginning.

    Raises ValueError for a continuation longer than the model's context, or an empty part. `advance(n)` is called when
    n more requests are done.
    """
    length = model.config.context_length
    for request in requests:
        if not request.context or not 0 < len(request.continuation) <= length:
            raise ValueError(f"a continuation of {len(request.continuation)} tokens behind {len(request.context)}")
    fitted = [request.fitted(length) for request in requests]
    distinct = list(dict.fromkeys(fitted))
    times = dict.fromkeys(distinct, 0)
    for request in fitted:
        times[request] += 1
    found: dict[Request, Score] = {}
    for batch in _batches(model, distinct):
        for request, result in zip(batch.requests, batch.scores(model)):
            found[request] = result
            if advance:
                advance(times[request])
    return [found[request] for request in fitted]


def _batches(model: CausalNetwork, requests: Sequence[Request]) -> Iterator[_Shared | _Padded]:
    """All requests, in the batches in which they are computed."""
    by_context: defaultdict[tuple[int, ...], list[Request]] = defaultdict(list)
    for request in requests:
        by_context[request.context].append(request)
    shares = isinstance(model, Decoder) and model.config.rope_scaling is None
    shared: defaultdict[int, list[list[Request]]] = defaultdict(list)
    alone: list[Request] = []
    for context, group in by_context.items():
        # Continuations of one token are read with the same tokens, so they are one row already.
        several = len({request.read for request in group}) > 1
        if shares and several and len(context) > SHARED_TOKENS:
            shared[len(context)].append(group)
        else:
            alone += group
    for _, groups in sorted(shared.items(), reverse=True):
        yield from map(_Shared, _cut(groups, lambda group: sum(len(request.read) for request in group)))
    alone.sort(key=lambda request: (-len(request.read), request.read))
    yield from map(_Padded, _cut([[request] for request in alone], lambda group: len(group[0].read)))


def _cut(groups: Sequence[list[Request]], size: Callable[[list[Request]], int]) -> Iterator[list[list[Request]]]:
    """Consecutive groups, as many at a time as have BATCH_TOKENS tokens (one in any case)."""
    held: list[list[Request]] = []
    total = 0
    for group in groups:
        if held and total + size(group) > BATCH_TOKENS:
            yield held
            held, total = [], 0
        held.append(group)
        total += size(group)
    if held:
        yield held


class _Padded:
    """Rows of nearly the same length, each with its own context."""

    def __init__(self, groups: Sequence[Sequence[Request]]) -> None:
        self.requests = [request for group in groups for request in group]

    @torch.inference_mode()
    def scores(self, model: CausalNetwork) -> list[Score]:
        """In the order of `requests`."""
        rows = list(dict.fromkeys(request.read for request in self.requests))
        place = {read: row for row, read in enumerate(rows)}
        tokens = _padded(model, rows)
        row = [place[request.read] for request in self.requests for _ in request.continuation]
        column = [at for request in self.requests for at in range(len(request.context) - 1, len(request.read))]
        places = torch.tensor([row, column], device=tokens.device)
        return _scored(model, model.states_at(tokens, places[0], places[1]), self.requests)


class _Shared:
    """Contexts of one length, each computed once, with all their continuations."""

    def __init__(self, groups: Sequence[Sequence[Request]]) -> None:
        self.groups = groups
        self.requests = [request for group in groups for request in group]

    @torch.inference_mode()
    def scores(self, model: CausalNetwork) -> list[Score]:
        """In the order of `requests`."""
        assert isinstance(model, Decoder), "only decoders have a cache that copies can go on from"
        # The last token of the context is read with the continuation: its state says the first token of that.
        contexts = [group[0].context[:-1] for group in self.groups]
        tails = [request.read[len(contexts[0]) :] for request in self.requests]
        device = next(model.parameters()).device
        cache = model.new_cache(len(contexts), len(contexts[0]) + max(map(len, tails)))
        model.extend(torch.tensor(contexts, device=device), cache)
        copies = [index for index, group in enumerate(self.groups) for _ in group]
        cache.keep(torch.tensor(copies, device=device))
        states = model.extend(_padded(model, tails), cache)
        spans = [states[row, : len(tail)] for row, tail in enumerate(tails)]
        return _scored(model, torch.cat(spans), self.requests)


def _padded(model: CausalNetwork, rows: Sequence[Sequence[int]]) -> Tensor:
    """Int64 [rows, longest]; what is behind a row's end is never looked at, for attention is causal."""
    time = max(map(len, rows))
    filled = [[*row, *[0] * (time - len(row))] for row in rows]
    return torch.tensor(filled, dtype=torch.int64, device=next(model.parameters()).device)


def _scored(model: CausalNetwork, states: Float[Tensor, "tokens hidden"], requests: Sequence[Request]) -> list[Score]:
    """States before each token of all continuations -> their scores."""
    targets = torch.tensor([token for request in requests for token in request.continuation], device=states.device)
    size = max(1, BATCH_LOGITS // model.vocab_size)
    nats, hits = [], []
    for start in range(0, len(targets), size):
        logits = model.logits_of(states[start : start + size])
        wanted = targets[start : start + size]
        nats.append(torch.nn.functional.cross_entropy(logits, wanted, reduction="none"))
        hits.append(logits.argmax(dim=-1) == wanted)
    losses, are_hits = torch.cat(nats).double().tolist(), torch.cat(hits).tolist()
    ends = list(accumulate(len(request.continuation) for request in requests))
    spans = [slice(end - len(request.continuation), end) for end, request in zip(ends, requests)]
    return [Score(-math.fsum(losses[span]), all(are_hits[span])) for span in spans]
