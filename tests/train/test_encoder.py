"""The one step with an encoder: several losses, micro-batches, ranks of fakes, and a resume to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from groundup.models import EncoderConfig
from groundup.optim import AdamWConfig, ConstantConfig, MuonConfig
from groundup.parallel.fake import fake_world
from groundup.tokens import IGNORE, Masking, MaskingConfig, Mixture, MixtureSource, WordStarts
from groundup.tokens.packing import Row, segments_and_positions
from groundup.train import loop
from groundup.train.guards import StopRequest
from groundup.train.phase import Phase
from groundup.train.settings import ExecutionConfig, TrainingConfig
from groundup.train.state import TrainState, build_state
from groundup.train.step import Objectives, train_step
from tests.train import toys

MODEL = EncoderConfig(
    kind="encoder", context_length=16, num_layers=2, hidden_size=16, num_heads=2, ffn_size=32, next_sentence=True,
    predicted_share=0.3,
)  # fmt: skip
VOCAB_SIZE = 32
NOISY = MODEL.model_copy(
    update={"embedding_dropout": 0.1, "attention_dropout": 0.2, "residual_dropout": 0.1, "stochastic_depth": 0.2}
)
OBJECTIVES = Objectives(("text",), (0,), ("pretrain",), (1.0,), ("", "next_sentence"))


class Vocabulary:
    """Four control tokens; the others are letters."""

    vocab_size = VOCAB_SIZE
    control_ids = frozenset(range(4))

    def token_bytes(self, token: int) -> bytes:
        return b" " + bytes([97 + token - 4])


class Rows:
    """Pairs that count upwards; the second text goes on from the first, or begins anywhere."""

    name, num_rows, context_length = "text", 12, 16
    masking = Masking(MaskingConfig(share=0.3), WordStarts(Vocabulary()), 3, seed=1)

    def row(self, index: int) -> Row:
        return self.drawn(index, index)

    def drawn(self, index: int, draw: int) -> Row:
        follows = index % 2
        first = np.arange(index, index + 7)
        second = first[-1] + 1 + np.arange(6) + (0 if follows else 11)
        tokens: NDArray[np.int64] = np.concatenate([[1], first % 28 + 4, [2], second % 28 + 4, [2]]).astype(np.int64)
        masked, targets = self.masking.apply(tokens, draw)
        pairs = np.full(16, IGNORE, dtype=np.int64)
        pairs[0] = 1 - follows
        parts = (np.arange(16) > 8).astype(np.int32)
        is_start = np.arange(16) == 0
        return Row(masked, np.stack([targets, pairs]), *segments_and_positions(is_start), parts)


def training(steps: int, rule: MuonConfig | AdamWConfig | None = None) -> TrainingConfig:
    return TrainingConfig(
        tokens=steps * 128,
        global_batch_tokens=128,
        optimizer=rule or AdamWConfig(learning_rate=0.01),
        schedule=ConstantConfig(),
        precision="fp32",
    )


def mixture() -> Mixture:
    return Mixture([MixtureSource(Rows(), 1.0)], 8, seed=2)


def state(config: TrainingConfig, model: EncoderConfig = MODEL, **changes: object) -> TrainState:
    execution = ExecutionConfig(device="cpu", threads=1, compile="off")
    return build_state(model, VOCAB_SIZE, config, execution, 3, device=torch.device("cpu"), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", [AdamWConfig(learning_rate=0.01), MuonConfig(learning_rate=0.02)])
def test_both_losses_fall(rule: AdamWConfig | MuonConfig) -> None:
    made, data = state(training(60, rule)), mixture()
    losses = []
    for step in range(60):
        result = train_step(made, [data.batch(step, 0, 8)], OBJECTIVES, learning_rate_factor=1.0, max_grad_norm=1.0)
        losses.append(result.source_losses.tolist())
        assert float(result.loss) == pytest.approx(sum(losses[-1]), rel=1e-5)
    assert OBJECTIVES.loss_names == ["text", "text_next_sentence"]
    first, last = np.mean(losses[:5], axis=0), np.mean(losses[-5:], axis=0)
    assert last[0] < 0.9 * first[0]
    assert last[1] < first[1]


@pytest.mark.parametrize("model", [MODEL, NOISY])
def test_micro_batches_do_not_change_the_step(model: EncoderConfig) -> None:
    one, other, data = state(training(2), model), state(training(2), model), mixture()
    for made, size in ((one, 8), (other, 2)):
        batches = [data.batch(0, start, size) for start in range(0, 8, size)]
        train_step(made, batches, OBJECTIVES, learning_rate_factor=1.0, max_grad_norm=1.0)
    for (name, left), (_, right) in zip(one.model.named_parameters(), other.model.named_parameters()):
        assert torch.allclose(left, right, atol=2e-5), name


@pytest.mark.parametrize("model", [MODEL, NOISY])
def test_a_killed_and_resumed_run_ends_with_the_same_bits(tmp_path: Path, model: EncoderConfig) -> None:
    def run(folder: Path, steps: int) -> TrainState:
        folder.mkdir(exist_ok=True)
        made = state(training(steps), model)
        phase = Phase("pretrain", training(steps), mixture(), OBJECTIVES, lambda model: {}, 1000.0)
        loop.train(phase, made, toys.EAGER, folder, toys.journal(folder), StopRequest())
        return made

    whole = run(tmp_path / "whole", 8)
    run(tmp_path / "parts", 3)
    assert toys.equal_states(run(tmp_path / "parts", 8), whole)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_step_runs_under_fake_tensors_on_fake_ranks(precision: str) -> None:
    batch = mixture().batch(0, 0, 4)
    config = training(2).model_copy(update={"precision": precision})
    with fake_world(2) as mesh:
        made = state(config, mesh=mesh)
        train_step(made, [batch], OBJECTIVES, learning_rate_factor=1.0, max_grad_norm=1.0)
    assert made.step == 1
