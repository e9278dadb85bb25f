"""Each rule against its reference: the same gradients for some steps give the same weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lion_pytorch
import pytest
import schedulefree
import torch
import torchao.optim
from torch import Tensor

from groundup.optim import (
    AdafactorConfig,
    AdagradConfig,
    AdamConfig,
    AdamW8bitConfig,
    AdamWConfig,
    LionConfig,
    NamedConfig,
    Rates,
    RMSpropConfig,
    ScheduleFreeConfig,
    SGDConfig,
    build_optimizer,
)
from tests.optim.toys import kind

RATE = 0.03
REFERENCES: list[tuple[Rates, Callable[[list[Tensor]], torch.optim.Optimizer]]] = [
    (
        AdamWConfig(learning_rate=RATE, weight_decay=0.2, beta2=0.9),
        lambda p: torch.optim.AdamW(p, lr=RATE, betas=(0.9, 0.9), weight_decay=0.2),
    ),
    (
        AdamConfig(learning_rate=RATE, weight_decay=0.2),
        lambda p: torch.optim.Adam(p, lr=RATE, betas=(0.9, 0.95), weight_decay=0.2),
    ),
    (
        SGDConfig(learning_rate=RATE, weight_decay=0.2, momentum=0.8, nesterov=True),
        lambda p: torch.optim.SGD(p, lr=RATE, momentum=0.8, nesterov=True, weight_decay=0.2),
    ),
    (
        AdagradConfig(learning_rate=RATE, weight_decay=0.2, initial_sum=0.5),
        lambda p: torch.optim.Adagrad(p, lr=RATE, weight_decay=0.2, initial_accumulator_value=0.5),
    ),
    (
        AdafactorConfig(learning_rate=RATE, weight_decay=0.2),
        lambda p: torch.optim.Adafactor(p, lr=RATE, weight_decay=0.2),
    ),
    (
        RMSpropConfig(learning_rate=RATE, weight_decay=0.2, momentum=0.7, centred=True, smoothing=0.9),
        lambda p: torch.optim.RMSprop(p, lr=RATE, weight_decay=0.2, momentum=0.7, centered=True, alpha=0.9),
    ),
    (
        LionConfig(learning_rate=RATE, weight_decay=0.2),
        lambda p: lion_pytorch.Lion(p, lr=RATE, betas=(0.9, 0.99), weight_decay=0.2),
    ),
    (
        ScheduleFreeConfig(learning_rate=RATE, weight_decay=0.2),
        lambda p: _training(schedulefree.AdamWScheduleFree(p, lr=RATE, betas=(0.9, 0.95), weight_decay=0.2)),
    ),
    (
        AdamW8bitConfig(learning_rate=RATE, weight_decay=0.2),
        lambda p: torchao.optim.AdamW8bit(p, lr=RATE, betas=(0.9, 0.95), weight_decay=0.2),
    ),
    (
        NamedConfig(name="torch.optim.Adamax", learning_rate=RATE, weight_decay=0.2),
        lambda p: torch.optim.Adamax(p, lr=RATE, weight_decay=0.2),
    ),
]


def _training(optimizer: Any) -> torch.optim.Optimizer:
    optimizer.train()
    return optimizer  # type: ignore[no-any-return]


def start() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = {"matrix": (64, 80), "wide": (6, 20), "vector": (9,)}
    return {name: torch.nn.Parameter(torch.randn(s, generator=generator)) for name, s in shapes.items()}


def run(parameters: dict[str, Tensor], step: Callable[[], Any], steps: int = 6) -> None:
    for number in range(steps):
        generator = torch.Generator().manual_seed(100 + number)
        for parameter in parameters.values():
            parameter.grad = torch.randn(parameter.shape, generator=generator) * 10.0 ** (number % 3 - 1)
        with torch.compiler.set_stance("force_eager"):
            step()


@pytest.mark.parametrize(
    ("config", "reference"), REFERENCES, ids=lambda case: kind(case) if hasattr(case, "kind") else ""
)
def test_steps_are_those_of_the_reference(
    config: Rates, reference: Callable[[list[Tensor]], torch.optim.Optimizer]
) -> None:
    mine, theirs = start(), start()
    # All are hidden matrices, even the vector: so each decays, as in the reference with its one group.
    optimizer = build_optimizer(config, mine, mine.keys())
    run(mine, optimizer.step)
    run(theirs, reference(list(theirs.values())).step)
    for name, parameter in mine.items():
        assert not torch.equal(parameter, start()[name])
        torch.testing.assert_close(parameter, theirs[name], rtol=1e-5, atol=1e-6)


def test_lion_is_its_package_to_the_bit() -> None:
    mine, theirs = start(), start()
    optimizer = build_optimizer(LionConfig(learning_rate=RATE), mine, mine.keys())
    run(mine, optimizer.step)
    run(theirs, lion_pytorch.Lion(list(theirs.values()), lr=RATE, betas=(0.9, 0.99), weight_decay=1.0).step)
    assert all(torch.equal(parameter, theirs[name]) for name, parameter in mine.items())
