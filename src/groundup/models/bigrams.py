"""Counted pairs of tokens -> embedding table and output matrix that predict like them: a start that has read already.

    counts C [vocab, vocab]      L = log((C + k p) / (c + k)), smoothed log probabilities (k: smoothing, p: of all text)
    L ~ E W'                     E: singular vectors of L, rows weighted by how often they occur; W: least squares
    E, W                         then a few steps of Adam on the cross-entropy of pairs

A model whose blocks start as the identity (`zero_init`) and that has two tables (`tied: false`) is then, before its
first step, nearly the best bigram model of its width; hundreds of steps are saved, for seconds of work. Nothing is left
of it at export: it is a start like any other.

Invariant: L is never held whole: it is a sparse matrix, where pairs were seen, plus matrices of rank one. The same
counts and seed give the same tables.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

SMOOTHING = 10.0
"""Imagined observations of each token, distributed as tokens are in general."""
POWER_ITERATIONS = 2
RIDGE = 1e-3
LEARNING_RATE, FULL_RATE_SIZE = 0.02, 256
"""Adam's rate, up to this width of tables; in wider ones a step would move scores, sums over the width, by more."""
BETAS = (0.8, 0.95)
ROWS_AT_ONCE = 1024
"""Contexts of a product; and a narrow step sees so many."""
FIT_SHARE = 0.05
"""Of the FLOPs of the phase: what fitting the tables to the pairs may cost."""


@dataclass(frozen=True)
class PairCounts:
    """A sparse matrix of counts [vocab, vocab] and its margins."""

    pairs: Tensor
    """Coalesced, sparse: how often `column` follows `row`."""
    first: Float[Tensor, " vocab"]
    second: Float[Tensor, " vocab"]

    @staticmethod
    def of(first: Tensor, second: Tensor, counts: Tensor, vocab_size: int) -> PairCounts:
        """From distinct pairs and their counts. Raises ValueError when there are none."""
        if not len(counts):
            raise ValueError("no pair of tokens was counted: the text is empty")
        values = counts.to(torch.float32)
        pairs = _sparse(torch.stack([first, second]), values, vocab_size)
        margins = [torch.zeros(vocab_size).index_add(0, index, values) for index in (first, second)]
        return PairCounts(pairs, *margins)


def bigram_tables(
    counts: PairCounts, size: int, steps: int, seed: int, dtype: torch.dtype
) -> tuple[Float[Tensor, "vocab size"], Float[Tensor, "vocab size"]]:
    """Embeddings with a root mean square of 1, and the output matrix that belongs to them.

    `steps` of refinement cost `flops_of_step` each, in products of `dtype`.
    """
    logs = _LogProbabilities(counts)
    generator = torch.Generator().manual_seed(seed)
    embedding = _unit(_contexts(logs, counts, size, generator))
    head = _fitted_head(logs, counts, embedding)
    return _refined(counts, embedding, head, steps, dtype)


def flops_of_step(vocab_size: int, size: int) -> float:
    """FLOPs of a step of refinement, on average over those that see all contexts and those that see few."""
    every = _wide_every(vocab_size)
    contexts = (vocab_size + (every - 1) * min(ROWS_AT_ONCE, vocab_size)) / every
    return 6 * contexts * vocab_size * size


def affordable_steps(asked: int, phase_flops: float, vocab_size: int, size: int) -> int:
    """As many as asked for, unless their FLOPs were more than FIT_SHARE of the phase's (at large vocabularies)."""
    return min(asked, int(FIT_SHARE * phase_flops / flops_of_step(vocab_size, size)))


def _wide_every(vocab_size: int) -> int:
    """One of so many steps sees all contexts: they cost about as much as the narrow ones together."""
    return -(-vocab_size // ROWS_AT_ONCE)


class _LogProbabilities:
    """L with the mean of each row taken off, as products with other matrices: sparse, plus two of rank one."""

    def __init__(self, counts: PairCounts) -> None:
        vocab_size = len(counts.first)
        general = (counts.second + 0.5) / (counts.second.sum() + 0.5 * vocab_size)
        index, values = counts.pairs.indices(), counts.pairs.values()
        excess = torch.log1p(values / (SMOOTHING * general[index[1]]))
        self.excess = _sparse(index, excess, vocab_size)
        self.transposed = self.excess.t().coalesce()
        self.row_means = torch.zeros(vocab_size).index_add(0, index[0], excess) / vocab_size
        self.general = general.log() - general.log().mean()

    def times(self, x: Float[Tensor, "vocab n"]) -> Float[Tensor, "vocab n"]:
        """L x."""
        x = x.contiguous()  # by columns, as torch.linalg gives it, the sparse product takes ten times as long
        found: Tensor = self.excess @ x - torch.outer(self.row_means, x.sum(0)) + self.general @ x
        return found

    def transposed_times(self, x: Float[Tensor, "vocab n"]) -> Float[Tensor, "vocab n"]:
        """L' x."""
        x = x.contiguous()
        found: Tensor = self.transposed @ x - self.row_means @ x + torch.outer(self.general, x.sum(0))
        return found


def _contexts(
    logs: _LogProbabilities, counts: PairCounts, size: int, generator: torch.Generator
) -> Float[Tensor, "vocab size"]:
    """Left singular vectors of the weighted L times roots of singular values, turned at random (Halko et al. 2011).

    Roots: with the values themselves a few directions hold most of the embeddings' variance (the first, which all
    contexts share, 30 times the second), and the blocks learn slowly from the others (docs/experiments.md).
    Turned, since a model's norms have a gain per dimension and none should stand out.
    """
    vocab_size = len(counts.first)
    rank = min(size, vocab_size)
    weights = (counts.first + 1).sqrt()[:, None]
    basis = torch.linalg.qr(weights * logs.times(torch.randn(vocab_size, rank, generator=generator)))[0]
    for _ in range(POWER_ITERATIONS):
        back = torch.linalg.qr(logs.transposed_times(weights * basis))[0]
        basis = torch.linalg.qr(weights * logs.times(back))[0]
    left, values, _ = torch.linalg.svd(logs.transposed_times(weights * basis).T, full_matrices=False)
    found = torch.zeros(vocab_size, size)
    found[:, :rank] = (basis @ (left * values.sqrt())) / weights
    turn: Tensor = torch.linalg.qr(torch.randn(size, size, generator=generator))[0]
    return found @ turn


def _sparse(index: Tensor, values: Tensor, vocab_size: int) -> Tensor:
    made: Tensor = torch.sparse_coo_tensor(index, values, (vocab_size, vocab_size), check_invariants=False)
    return made.coalesce()


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().mean(1, keepdim=True).sqrt() + 1e-6)


def _fitted_head(logs: _LogProbabilities, counts: PairCounts, embedding: Tensor) -> Float[Tensor, "vocab size"]:
    """Least squares of L by the embeddings, contexts weighted by how often they occur."""
    weighted = counts.first[:, None] * embedding
    size = embedding.shape[1]
    gram = embedding.T @ weighted + RIDGE * counts.first.mean() * torch.eye(size)
    head: Tensor = torch.linalg.solve(gram, logs.transposed_times(weighted).T)
    return head.T.contiguous()


def _refined(
    counts: PairCounts, embedding: Tensor, head: Tensor, steps: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """`steps` of Adam on the mean loss of pairs, the rate falling to zero.

    Contexts lie in order of frequency here. Some steps see all of them, most only the most frequent ones, in which
    most pairs begin: more steps for the same work serve better than steps over everything.
    """
    order = counts.first.argsort(descending=True, stable=True)
    pairs = _Pairs(counts, order)
    embedding = embedding[order].requires_grad_()
    head.requires_grad_()
    rate, every = LEARNING_RATE * min(1.0, FULL_RATE_SIZE / embedding.shape[1]), _wide_every(len(order))
    optimizer = torch.optim.Adam([embedding, head], lr=rate, betas=BETAS, fused=True)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - step / steps)
        optimizer.zero_grad()
        unit = _unit(embedding if step % every == 0 else embedding[:ROWS_AT_ONCE])
        grad_unit, head.grad = pairs.gradients(unit.detach(), head.detach(), dtype)
        unit.backward(grad_unit)  # type: ignore[no-untyped-call]
        optimizer.step()
    found = torch.empty_like(embedding).detach()
    found[order] = _unit(embedding.detach())
    return found, head.detach()


class _Pairs:
    """Counted pairs as parts of all, contexts in the given order."""

    def __init__(self, counts: PairCounts, order: Tensor) -> None:
        total, (first, second) = counts.first.sum(), counts.pairs.indices()
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order))
        rows, by_row = place[first].sort(stable=True)
        self.parts = counts.first[order, None] / total
        self.rows, self.columns, self.seen = rows, second[by_row], counts.pairs.values()[by_row] / total

    def gradients(
        self, embedding: Float[Tensor, "contexts size"], head: Float[Tensor, "vocab size"], dtype: torch.dtype
    ) -> tuple[Float[Tensor, "contexts size"], Float[Tensor, "vocab size"]]:
        """Of the cross-entropy of the first contexts' pairs, those whose embeddings are given."""
        grad_embedding, grad_head = torch.zeros_like(embedding), torch.zeros_like(head)
        left, scores = embedding.to(dtype), head.to(dtype)
        for start in range(0, len(left), ROWS_AT_ONCE):
            block = slice(start, min(start + ROWS_AT_ONCE, len(left)))
            excess = torch.softmax((left[block] @ scores.T).float(), dim=1).mul_(self.parts[block])
            begin, end = torch.searchsorted(self.rows, torch.tensor([block.start, block.stop])).tolist()
            excess[self.rows[begin:end] - start, self.columns[begin:end]] -= self.seen[begin:end]
            narrow = excess.to(dtype)
            grad_embedding[block] = narrow @ scores
            grad_head += narrow.T @ left[block]
        return grad_embedding, grad_head
