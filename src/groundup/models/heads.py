"""Language-model head: hidden states and targets -> the loss of every position, without ever holding all logits.

    hidden [tokens, size] --chunk--> logits [chunk, vocab] --> loss of each token            (forward)
                                      recomputed          --> d hidden, d weight             (backward)
    with `weights` known beforehand the gradients are made in the forward, from the same logits (one product fewer).

Invariant: the losses are float32, 0 where the target is IGNORE, and memory does not grow with tokens * vocab.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from groundup.kernels import ops, products
from groundup.models.lane import Lane
from groundup.models.losses import IGNORE, LossConfig, loss_from_total
from groundup.models.vocabulary import losses_of_part, own_rows, rows_of_a_part

CHUNK_ELEMENTS = 2**22
MIN_CHUNK_TOKENS = 256


def chunk_tokens(vocab_size: int) -> int:
    """Tokens whose logits are held at once: about 4 million logits, but never fewer than 256 tokens."""
    return max(CHUNK_ELEMENTS // vocab_size, MIN_CHUNK_TOKENS)


class ChunkLoss(nn.Module):
    """Logits of one chunk -> losses, and (if asked) the gradient of `sum(weights * losses)` by the logits.

    A module of its own only so that it can be compiled like a block: on a CPU the fused form is what makes it cheap.
    """

    fused = False
    """Use the kernel where the logits are bfloat16; it overwrites them with the gradient."""
    loss = LossConfig()
    """What is added to cross-entropy."""
    lane: Lane | None = None
    """Ranks of which each has the scores of some tokens."""
    vocab_size = 0
    """Tokens of all of them."""

    def forward(
        self,
        logits: Float[Tensor, "chunk vocab"],
        targets: Int[Tensor, " chunk"],
        weights: Float[Tensor, " chunk"] | None,
    ) -> tuple[Float[Tensor, " chunk"], Float[Tensor, "chunk vocab"] | None]:
        """Cross-entropy in float32; the gradient comes in the dtype of the logits."""
        if self.fused and logits.dtype == torch.bfloat16:
            extra = (self.loss.label_smoothing, self.loss.z_loss)
            losses = ops.token_losses_(logits, targets, weights, IGNORE, *extra)
            return losses, None if weights is None else logits
        scores = logits.float()
        if self.lane is not None:
            losses, gradient = losses_of_part(scores, targets, weights, self.loss, self.vocab_size, self.lane)
            return losses, None if gradient is None else gradient.to(logits.dtype)
        log_total = torch.logsumexp(scores, dim=-1)
        losses = loss_from_total(scores, log_total, targets, self.loss)
        if weights is None:
            return losses, None
        scale = (weights * (targets != IGNORE))[:, None]
        hit = torch.arange(scores.shape[1], device=scores.device) == targets.clamp(min=0)[:, None]
        steeper = (1 + 2 * self.loss.z_loss * log_total)[:, None]
        wanted = (1 - self.loss.label_smoothing) * hit.float() + self.loss.label_smoothing / scores.shape[1]
        gradient = (torch.exp(scores - log_total[:, None]) * steeper - wanted) * scale
        return losses, gradient.to(logits.dtype)

    def width(self, matrix: Tensor) -> int:
        """Scores of a token that this rank has, or one with more: all ranks must cut a batch alike."""
        return len(matrix) if self.lane is None else rows_of_a_part(self.vocab_size, self.lane)


class _TokenLosses(torch.autograd.Function):
    """Losses per token; the gradient by hidden states and weight is recomputed chunk by chunk in the backward."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, kernel: ChunkLoss) -> Tensor:
        ctx.save_for_backward(hidden, weight, targets)
        ctx.kernel = kernel
        return _losses(hidden, weight, targets, kernel)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_losses: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, targets = ctx.saved_tensors
        learns = ctx.needs_input_grad[1]
        _, grad_hidden, grad_weight = _losses_and_gradients(hidden, weight, targets, grad_losses, ctx.kernel, learns)
        return grad_hidden, grad_weight, None, None


class _WeightedTokenLosses(torch.autograd.Function):
    """As `_TokenLosses`, for token weights known in the forward: gradients are made there and only scaled later."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor, kernel: ChunkLoss
    ) -> Tensor:
        learns = ctx.needs_input_grad[1]
        losses, grad_hidden, grad_weight = _losses_and_gradients(hidden, weight, targets, weights, kernel, learns)
        ctx.save_for_backward(grad_hidden, grad_weight, weights)
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_losses: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight, weights = ctx.saved_tensors
        factor = _common_factor(grad_losses, weights)
        by_weight = None if grad_weight is None else grad_weight * factor
        return grad_hidden * factor.to(grad_hidden.dtype), by_weight, None, None, None


def _common_factor(gradient: Tensor, weights: Tensor) -> Tensor:
    """The number f with gradient = f * weights; NaN where there is none, so that a wrong use cannot pass unseen."""
    factor = (gradient * weights).sum() / weights.square().sum().clamp(min=torch.finfo(weights.dtype).tiny)
    error = (gradient - factor * weights).abs().max()
    return torch.where(error <= 1e-4 * gradient.abs().max(), factor, float("nan"))


def _chunks(count: int, vocab_size: int) -> list[slice]:
    """Slices of at most `chunk_tokens`, all equally long where a few more chunks allow it (one compiled shape)."""
    fewest = -(-count // chunk_tokens(vocab_size))
    even = (number for number in range(fewest, 2 * fewest + 1) if count % number == 0)
    size = -(-count // next(even, fewest))
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _losses(hidden: Tensor, weight: Tensor, targets: Tensor, kernel: ChunkLoss) -> Tensor:
    matrix = weight.to(hidden.dtype).t()
    chunks = _chunks(len(hidden), kernel.width(weight))
    parts = [kernel(hidden[part] @ matrix, targets[part], None)[0] for part in chunks]
    return torch.cat(parts)


def _losses_and_gradients(
    hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor, kernel: ChunkLoss, weight_learns: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Losses [tokens] and the gradients of `sum(weights * losses)` by hidden states and, if it learns, weight."""
    matrix = weight.to(hidden.dtype)
    grad_hidden = torch.empty_like(hidden)
    grad_weight = torch.zeros_like(weight, dtype=torch.float32) if weight_learns else None
    losses = []
    for part in _chunks(len(hidden), kernel.width(weight)):
        loss, gradient = kernel(hidden[part] @ matrix.t(), targets[part], weights[part])
        losses.append(loss)
        torch.mm(gradient, matrix, out=grad_hidden[part])
        if grad_weight is not None:
            if kernel.fused and gradient.dtype == torch.bfloat16:
                products.add_weight_gradient_(grad_weight, gradient, hidden[part], True)
            else:
                grad_weight += gradient.t() @ hidden[part]
    return torch.cat(losses), grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype)


class LanguageModelHead(nn.Module):
    """Scores of the next token by one matrix, its own or (`tied`) the embedding's, handed in at each call."""

    lane: Lane | None = None
    """Ranks of which each has some rows of the matrix."""

    def __init__(self, hidden_size: int, vocab_size: int, *, tied: bool) -> None:
        super().__init__()
        self.weight = None if tied else nn.Parameter(torch.empty(vocab_size, hidden_size))
        self.chunk_loss = ChunkLoss()
        self.chunk_loss.vocab_size = vocab_size

    def logits(
        self, hidden: Float[Tensor, "*batch hidden"], embedding: Float[Tensor, "vocab hidden"]
    ) -> Float[Tensor, "*batch vocab"]:
        """All logits in float32; for inference and evaluation."""
        scores = (hidden @ self._matrix(embedding).to(hidden.dtype).t()).float()
        return scores if self.lane is None else self.lane.join(scores, self.chunk_loss.vocab_size)

    def forward(
        self,
        hidden: Float[Tensor, "rows time hidden"],
        embedding: Float[Tensor, "vocab hidden"],
        targets: Int[Tensor, "rows time"],
        row_weights: Float[Tensor, " rows"] | None,
    ) -> tuple[Float[Tensor, " rows"], Int[Tensor, " rows"]]:
        """Sum of the losses (float32, nats) and number of valid targets (int64) of each row; see `Decoder.forward`."""
        return self.losses(hidden, self._matrix(embedding), targets, row_weights)

    def losses(
        self,
        hidden: Float[Tensor, "rows time width"],
        matrix: Float[Tensor, "vocab width"],
        targets: Int[Tensor, "rows time"],
        row_weights: Float[Tensor, " rows"] | None,
    ) -> tuple[Float[Tensor, " rows"], Int[Tensor, " rows"]]:
        """As `forward`, with any matrix of scores."""
        if row_weights is None or not torch.is_grad_enabled():
            return self._of_tokens(hidden, matrix, targets).sum(1), (targets != IGNORE).sum(1)
        states, flat = hidden.flatten(0, 1), targets.flatten()
        weights = row_weights.float()[:, None].expand(targets.shape).flatten()
        losses = _WeightedTokenLosses.apply(  # type: ignore[no-untyped-call]
            states, matrix, flat, weights, self.chunk_loss
        )
        return losses.view(targets.shape).sum(1), (targets != IGNORE).sum(1)

    def token_losses(
        self,
        hidden: Float[Tensor, "rows time hidden"],
        embedding: Float[Tensor, "vocab hidden"],
        targets: Int[Tensor, "rows time"],
    ) -> Float[Tensor, "rows time"]:
        """The loss of every target by itself (float32, nats); what is made of them decides the gradients."""
        return self._of_tokens(hidden, self._matrix(embedding), targets)

    def _of_tokens(self, hidden: Tensor, matrix: Tensor, targets: Tensor) -> Tensor:
        losses: Tensor = _TokenLosses.apply(  # type: ignore[no-untyped-call]
            hidden.flatten(0, 1), matrix, targets.flatten(), self.chunk_loss
        )
        return losses.view(targets.shape)

    def _matrix(self, embedding: Tensor) -> Tensor:
        table = embedding if self.weight is None else self.weight
        return table if self.lane is None else own_rows(table, self.lane)
