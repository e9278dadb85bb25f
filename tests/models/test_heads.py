from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from groundup.models import heads
from groundup.models.heads import LanguageModelHead
from groundup.models.losses import IGNORE, LossConfig

ROWS, TIME, SIZE, VOCAB = 3, 10, 8, 23


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "chunk_tokens", lambda vocab_size: 7)


def make(dtype: torch.dtype = torch.float32) -> tuple[LanguageModelHead, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    head = LanguageModelHead(SIZE, VOCAB, tied=False)
    torch.nn.init.normal_(head.weight)
    hidden = torch.randn(ROWS, TIME, SIZE).to(dtype).requires_grad_()
    targets = torch.randint(0, VOCAB, (ROWS, TIME))
    targets[0, :4] = IGNORE
    targets[2] = IGNORE
    return head, hidden, targets


def reference(
    head: LanguageModelHead, hidden: torch.Tensor, targets: torch.Tensor, loss: LossConfig | None = None
) -> torch.Tensor:
    """The plain form: all logits, torch's own cross-entropy."""
    loss = loss or LossConfig()
    logits, flat = (hidden @ head.weight.to(hidden.dtype).t()).float().flatten(0, 1), targets.flatten()
    losses = F.cross_entropy(logits, flat, ignore_index=IGNORE, reduction="none", label_smoothing=loss.label_smoothing)
    losses = losses + loss.z_loss * logits.logsumexp(-1).square() * (flat != IGNORE)
    return losses.view(targets.shape).sum(1)


@pytest.mark.parametrize(
    "loss",
    [
        LossConfig(),
        LossConfig(label_smoothing=0.2),
        LossConfig(z_loss=0.05),
        LossConfig(label_smoothing=0.1, z_loss=0.01),
    ],
)
@pytest.mark.parametrize("known", [False, True])
def test_row_losses_and_their_gradients_are_cross_entropy(known: bool, loss: LossConfig) -> None:
    head, hidden, targets = make()
    head.chunk_loss.loss = loss
    weights = torch.tensor([0.5, -2.0, 3.0])
    sums, counts = head(hidden, head.weight, targets, weights if known else None)
    expected = reference(head, hidden, targets, loss)
    torch.testing.assert_close(sums, expected)
    assert counts.tolist() == [6, 10, 0] and sums[2] == 0 and sums.dtype == torch.float32
    ours = torch.autograd.grad((sums * weights).sum(), [hidden, head.weight])
    theirs = torch.autograd.grad((expected * weights).sum(), [hidden, head.weight])
    for mine, other in zip(ours, theirs):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)


def test_known_weights_may_be_off_by_a_factor_but_not_wrong() -> None:
    head, hidden, targets = make()
    weights = torch.tensor([0.5, 1.0, 3.0])
    wanted = torch.autograd.grad(
        (4 * weights * head(hidden, head.weight, targets, None)[0]).sum(), [hidden, head.weight]
    )
    scaled = torch.autograd.grad(
        (4 * weights * head(hidden, head.weight, targets, weights)[0]).sum(), [hidden, head.weight]
    )
    for mine, other in zip(scaled, wanted):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)
    wrong = torch.autograd.grad(head(hidden, head.weight, targets, weights)[0].sum(), [hidden, head.weight])
    assert all(gradient.isnan().all() for gradient in wrong)


def test_weights_that_are_all_zero_give_zero_gradients() -> None:
    head, hidden, targets = make()
    weights = torch.zeros(ROWS)
    sums, _ = head(hidden, head.weight, targets, weights)
    (gradient,) = torch.autograd.grad((sums * weights).sum(), [hidden])
    assert (gradient == 0).all()


def test_bfloat16_is_near_float32() -> None:
    head, hidden, targets = make()
    exact, _ = head(hidden, head.weight, targets, None)
    rough, _ = head(hidden.detach().bfloat16(), head.weight, targets, None)
    torch.testing.assert_close(rough, exact, rtol=0.02, atol=0.02)


class _Largest(TorchDispatchMode):
    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.numel = max([self.numel] + [leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)])
        return out


@pytest.mark.parametrize("known", [False, True])
def test_all_logits_are_never_held(known: bool) -> None:
    head, hidden, targets = make()
    with _Largest() as largest:
        sums, _ = head(hidden, head.weight, targets, torch.ones(ROWS) if known else None)
        sums.sum().backward()
    assert largest.numel == ROWS * TIME * SIZE < ROWS * TIME * VOCAB


@pytest.mark.parametrize("count", [1, 6, 7, 13, 14, 30, 49])
def test_chunks_cover_all_tokens_and_are_even_where_they_can(count: int) -> None:
    chunks = heads._chunks(count, VOCAB)
    assert [i for part in chunks for i in range(part.start, part.stop)] == list(range(count))
    assert max(part.stop - part.start for part in chunks) <= 7
    if count % 7 == 0:
        assert {part.stop - part.start for part in chunks} == {7}
