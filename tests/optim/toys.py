"""A toy model with every role of parameters, and gradients that depend on the step only."""

from __future__ import annotations

import torch
from torch import nn

from groundup.optim import (
    AdafactorConfig,
    AdagradConfig,
    AdamConfig,
    AdamW8bitConfig,
    AdamWConfig,
    LionConfig,
    MuonConfig,
    NamedConfig,
    Optimizer,
    Rates,
    RMSpropConfig,
    ScheduleFreeConfig,
    SGDConfig,
    build_optimizer,
)

MATRICES = {"hidden.weight", "out.weight"}
CONFIGS: list[Rates] = [
    AdamWConfig(learning_rate=0.01),
    MuonConfig(learning_rate=0.02),
    AdamConfig(learning_rate=0.01, weight_decay=0.1),
    SGDConfig(learning_rate=0.1, weight_decay=0.1, nesterov=True),
    AdagradConfig(learning_rate=0.05, weight_decay=0.1),
    AdafactorConfig(learning_rate=0.05, weight_decay=0.1),
    RMSpropConfig(weight_decay=0.1, momentum=0.5, centred=True),
    LionConfig(learning_rate=0.003),
    ScheduleFreeConfig(learning_rate=0.01),
    AdamW8bitConfig(learning_rate=0.01),
    NamedConfig(name="torch.optim.NAdam", learning_rate=0.01, weight_decay=0.1, arguments={"betas": [0.9, 0.95]}),
]


def kind(config: Rates) -> str:
    """Name of a case."""
    return str(config.kind)  # type: ignore[attr-defined]


def toy(width: int = 8) -> nn.ModuleDict:
    """Table, two matrices with a norm between them, head."""
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "table": nn.Embedding(10, 6),
            "hidden": nn.Linear(6, width, bias=False),
            "norm": nn.LayerNorm(width, bias=False),
            "out": nn.Linear(width, 6, bias=False),
            "head": nn.Linear(6, 10, bias=False),
        }
    )


def make(config: Rates, width: int = 8) -> tuple[nn.ModuleDict, Optimizer]:
    """A toy with its optimizer."""
    model = toy(width)
    return model, build_optimizer(config, dict(model.named_parameters()), MATRICES)


def train(model: nn.ModuleDict, optimizer: Optimizer, steps: range) -> None:
    """Steps whose batches depend on their number only."""
    for step in steps:
        tokens = torch.randint(0, 10, (4,), generator=torch.Generator().manual_seed(step))
        hidden = model["out"](model["norm"](model["hidden"](model["table"](tokens))))
        nn.functional.cross_entropy(model["head"](hidden), tokens).backward()
        with torch.compiler.set_stance("force_eager"):  # torchao compiles its step, seconds for each shape
            optimizer.set_rate_factor(1.0, 0)
            optimizer.step()
        optimizer.zero_grad()
