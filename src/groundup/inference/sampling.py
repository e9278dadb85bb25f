"""Logits of the next token -> its id. Pure functions; each row draws from its own generator.

    logits -> repetition penalty -> temperature -> top-k -> top-p -> one uniform number per row picks the id

Invariant: what a row yields depends on its own logits, history and generator only, never on the rows beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def greedy(logits: Float[Tensor, "rows vocab"]) -> Int[Tensor, " rows"]:
    """The most likely id of each row; the lowest id among equals."""
    if logits.device.type == "cpu" and logits.dtype == torch.float32:
        return torch.from_numpy(logits.detach().numpy().argmax(axis=-1))  # six times as fast as torch's there
    return logits.argmax(dim=-1)


def penalise(
    logits: Float[Tensor, "rows vocab"], seen: Sequence[Sequence[int]], penalty: float
) -> Float[Tensor, "rows vocab"]:
    """Make ids in `seen` (one list per row) less likely: positive logits are divided, negative multiplied by `penalty`.

    The rule of CTRL (arXiv 1909.05858), as transformers and vLLM apply it; 1.0 changes nothing.
    """
    if penalty == 1.0:
        return logits
    result = logits.clone()
    for row, ids in enumerate(seen):
        chosen = torch.tensor(sorted(set(ids)), dtype=torch.int64, device=logits.device)
        old = logits[row, chosen]
        result[row, chosen] = torch.where(old > 0, old / penalty, old * penalty)
    return result


def keep_top_k(logits: Float[Tensor, "rows vocab"], top_k: int) -> Float[Tensor, "rows vocab"]:
    """All but the `top_k` largest logits of a row become -inf; 0 keeps all. Equals of the last one kept stay too."""
    if top_k <= 0 or top_k >= logits.shape[-1]:
        return logits
    smallest = logits.topk(top_k, dim=-1).values[..., -1:]
    return logits.masked_fill(logits < smallest, float("-inf"))


def keep_top_p(logits: Float[Tensor, "rows vocab"], top_p: float) -> Float[Tensor, "rows vocab"]:
    """Keep the smallest set of most likely ids that holds at least `top_p` of the probability (arXiv 1904.09751)."""
    if top_p >= 1.0:
        return logits
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    probability = ordered.softmax(dim=-1)
    before = probability.cumsum(dim=-1) - probability
    ordered = ordered.masked_fill(before >= top_p, float("-inf"))
    return torch.empty_like(logits).scatter(-1, order, ordered)


def draw(logits: Float[Tensor, "rows vocab"], generators: Sequence[torch.Generator]) -> Int[Tensor, " rows"]:
    """One id per row, with the probabilities of softmax(logits): inverse of the cumulative sum at a uniform number."""
    cumulative = logits.double().softmax(dim=-1).cumsum(dim=-1)
    uniform = torch.stack([torch.rand((), generator=g, dtype=torch.float64) for g in generators]).to(logits.device)
    threshold = uniform[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, threshold, right=True).squeeze(-1).clamp(max=logits.shape[-1] - 1)


def sample(
    logits: Float[Tensor, "rows vocab"],
    generators: Sequence[torch.Generator],
    temperature: float,
    top_k: int = 0,
    top_p: float = 1.0,
) -> Int[Tensor, " rows"]:
    """The next id of each row; temperature 0 is greedy and draws nothing from the generators."""
    if temperature == 0.0:
        return greedy(logits)
    return draw(keep_top_p(keep_top_k(logits.float() / temperature, top_k), top_p), generators)
