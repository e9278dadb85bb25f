"""One variant of Groundup's recipe, judged in tokens and not in seconds, so that runs may share a machine.

Most variants are other values of recipe fields. What the product does not offer is made here from outside of it, so
that it can be judged before it is built: `trick` of the settings names one of TRICKS, `values` are its numbers.

Invariant: a variant sees the same rows in the same order as any other of its seed, unless its trick says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from benchmarks.runners.groundup import Groundup
from benchmarks.runners.session import Session, TextRows, run

from groundup.optim import muon


class Variant(Groundup):
    """The recipe with a trick, if it has one."""

    def __init__(self, session: Session) -> None:
        session.budget_tokens = session.job["tokens"]
        self.trick = session.settings.get("trick", "none")
        self.values: dict[str, Any] = session.settings.get("values", {})
        self.average: dict[str, torch.Tensor] = {}
        super().__init__(session)
        self.session = session
        TRICKS[self.trick](self, 0.0)

    def step(self, tokens: torch.Tensor, factor: float, progress: float) -> object:
        """A step of the recipe with the trick around it."""
        if self.trick == "batch growth":
            rows = at(self.values["batch_tokens"], progress) // self.session.size.context_length
            return [super(Variant, self).step(part, factor, progress) for part in tokens.split(rows)]
        if self.trick == "sequence growth":
            tokens = shorter(tokens, at(self.values["contexts"], progress))
        if self.trick in EVERY_STEP:
            TRICKS[self.trick](self, progress)
        result = super().step(tokens, factor, progress)
        if self.trick == "average" and progress >= self.values["from"]:
            self._take_into_average()
        return result

    @torch.no_grad()
    def _take_into_average(self) -> None:
        """Exponential mean of the weights, begun late, since early weights would only spoil it."""
        for name, parameter in self.state.model.named_parameters():
            if name not in self.average:
                self.average[name] = parameter.detach().clone()
            self.average[name].lerp_(parameter, 1 - self.values["decay"])

    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """Of the mean of the weights, where there is one: only asked at the end, so nothing is put back."""
        with torch.no_grad():
            for name, parameter in self.state.model.named_parameters():
                if name in self.average:
                    parameter.copy_(self.average[name])
        return super().logits(tokens)


def at(values: list[int], progress: float) -> int:
    """The value for this part of the run: each has an equal share."""
    return values[min(len(values) - 1, int(progress * len(values)))]


def shorter(tokens: torch.Tensor, context: int) -> torch.Tensor:
    """[rows, time + 1] -> [rows * time / context, context + 1]: the same tokens to predict, with less before them."""
    return torch.cat([tokens[:, start : start + context + 1] for start in range(0, tokens.shape[1] - 1, context)])


def hold_tables(variant: Variant, progress: float) -> None:
    """Keep embedding and output matrix as they started, until the blocks have learnt something."""
    rate = 1.0 if progress >= variant.values["until"] else 0.0
    for group in variant.state.optimizer.param_groups:
        if group["role"] in ("embedding", "head"):
            group.setdefault("held_rate", group["base_learning_rate"])
            group["base_learning_rate"] = rate * group["held_rate"]


def grow_depth(variant: Variant, progress: float) -> None:
    """Few blocks first: those that are left out start as the identity, so putting them in changes nothing at once."""
    model = variant.state.model
    blocks = variant.values.setdefault("blocks", list(model.layers))
    model.layers = torch.nn.ModuleList(blocks[: at(variant.values["depths"], progress)])


def warm_momentum(variant: Variant, progress: float) -> None:
    """Muon's momentum rises from `low` to the recipe's."""
    part = variant.state.optimizer.parts[0]
    assert isinstance(part, muon.Muon), "a trick of Muon's"
    low, high = variant.values["low"], variant.values["high"]
    momentum = low + (high - low) * min(1.0, progress / variant.values["until"])
    part.config = part.config.model_copy(update={"momentum": momentum})


def in_order(variant: Variant, progress: float) -> None:
    """The text from its beginning to its end, as it lies."""
    rows = variant.session.data
    assert isinstance(rows, TextRows), "the search is over text"
    rows._epoch = (0, 0, np.arange(rows.rows_per_epoch))


def other_coefficients(variant: Variant, progress: float) -> None:
    """Newton-Schulz with a polynomial of its own for every iteration."""
    chosen, plain = torch.tensor(variant.values["coefficients"]), muon.ops.orthogonalise
    muon.ops.orthogonalise = lambda matrices, _: plain(matrices, chosen)


def normalised_rows(variant: Variant, progress: float) -> None:
    """NorMuon (Li et al. 2025): rows of the orthogonal update divided by the root of their mean square over time."""
    seen: dict[torch.Size, torch.Tensor] = {}
    decay, plain = variant.values["decay"], muon.orthogonal

    def orthogonal(matrices: torch.Tensor, steps: int) -> torch.Tensor:
        update = plain(matrices, steps)
        square = update.square().mean(2, keepdim=True)
        mean = seen.setdefault(matrices.shape, torch.zeros_like(square)).lerp_(square, 1 - decay)
        scaled = update / (mean.sqrt() + 1e-8)
        size = torch.linalg.matrix_norm(update) / (torch.linalg.matrix_norm(scaled) + 1e-8)
        return scaled * size[:, None, None]

    muon.orthogonal = orthogonal


def known_moments(variant: Variant, progress: float) -> None:
    """Adam's second moments of the tables begin as what counted tokens say, instead of with the first batch's gradient.

    A token that makes up the part q of the text has a gradient of variance q / batch (times that of what it is
    multiplied with); without it, rows of tokens that are not in the first batches move as fast as all others.
    """
    session, model = variant.session, variant.state.model
    rows = session.data
    assert isinstance(rows, TextRows), "the search is over text"
    seen = torch.bincount(torch.from_numpy(np.asarray(rows.tokens, dtype=np.int64)), minlength=model.vocab_size)
    parts = ((seen + 0.5) / seen.sum())[:, None] / (session.rows * session.size.context_length)
    parameters = dict(model.named_parameters())
    head = parameters[model.head_name].detach()
    expected = {model.head_name: 1.0, model.embedding_name: float(head.square().mean())}
    for part in variant.state.optimizer.parts:
        for name, square in expected.items():
            parameter = parameters[name]
            if any(parameter is member for group in part.param_groups for member in group["params"]):
                part.state[parameter] = {
                    "step": torch.tensor(1000.0),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": (parts * square * variant.values.get("scale", 1.0)).expand_as(parameter).contiguous(),
                }


def scaled_output(variant: Variant, progress: float) -> None:
    """Another scale of the output matrix than its start has given it."""
    with torch.no_grad():
        dict(variant.state.model.named_parameters())[variant.state.model.head_name].mul_(variant.values["scale"])


def nothing(variant: Variant, progress: float) -> None:
    """The recipe as it is, or a trick that `Variant.step` does."""


EVERY_STEP: dict[str, Callable[[Variant, float], None]] = {
    "depth growth": grow_depth,
    "held tables": hold_tables,
    "momentum warm-up": warm_momentum,
}
TRICKS = {
    **EVERY_STEP,
    "in order": in_order,
    "coefficients": other_coefficients,
    "normalised rows": normalised_rows,
    "known moments": known_moments,
    "scaled output": scaled_output,
    **dict.fromkeys(("none", "average", "batch growth", "sequence growth"), nothing),
}


if __name__ == "__main__":
    run(Variant)
