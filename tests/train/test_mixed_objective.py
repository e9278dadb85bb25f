"""loss_pretrain + lambda * loss_instruct: its gradient is the sum of the two apart, however packed and divided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from groundup.log import read_lines
from groundup.models import ModelConfig
from groundup.parallel import ParallelConfig, Rank, join, leave, shard
from groundup.tokens import IGNORE, Batch, collate
from groundup.tokens.conversation_rows import best_fit_decreasing
from groundup.tokens.packing import Row, segments_and_positions
from groundup.train.guards import StopRequest
from groundup.train.loop import train
from groundup.train.state import TrainState, build_state
from groundup.train.step import Objectives, train_step
from tests.ports import free_port
from tests.ranks import run_ranks
from tests.train import toys

MODELS = {"decoder": toys.MODEL, "lstm": toys.LSTM}
CLOSE = {"rtol": 0.0, "atol": 1e-6}
OBJECTIVES = Objectives(("text", "chat"), (0, 1), ("pretrain", "instruct"), (1.0, 2.5), weight_names=("", "lambda"))


def conversation_rows(lengths: Sequence[int], packed: bool) -> list[Row]:
    """Conversations of these lengths, several to a row or each in its own; padding has no target."""
    places = best_fit_decreasing(lengths, toys.CONTEXT_LENGTH) if packed else [[i] for i in range(len(lengths))]
    rows = []
    for numbers in places:
        tokens = np.zeros(toys.CONTEXT_LENGTH, dtype=np.int64)
        targets = np.full(toys.CONTEXT_LENGTH, IGNORE, dtype=np.int64)
        starts = np.zeros(toys.CONTEXT_LENGTH, dtype=bool)
        at = 0
        for number in numbers:
            random = np.random.default_rng(number)
            ids = random.integers(0, toys.VOCAB_SIZE, lengths[number] + 1)
            learnt = np.arange(1, lengths[number] + 1) > lengths[number] // 2
            tokens[at : at + lengths[number]] = ids[:-1]
            targets[at : at + lengths[number]] = np.where(learnt, ids[1:], IGNORE)
            starts[at] = True
            at += lengths[number]
        if at < toys.CONTEXT_LENGTH:
            starts[at] = True
        rows.append(Row(tokens, targets, *segments_and_positions(starts)))
    return rows


def stepped(state: TrainState, batches: Sequence[Batch], objectives: Objectives) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and whole gradients of a step, read off by an optimizer that does nothing."""
    state.optimizer.step = lambda: None  # type: ignore[method-assign]
    state.optimizer.zero_grad = lambda: None  # type: ignore[method-assign,assignment]
    result = train_step(state, batches, objectives, learning_rate_factor=1.0, max_grad_norm=1e9)
    gradients = {n: shard.full_tensor(p.grad) for n, p in state.model.named_parameters() if p.grad is not None}
    return result.loss, {name: gradient.clone() for name, gradient in gradients.items()}


def apart(batch: Batch, source: int, model: ModelConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean loss of one source's rows alone and its gradient, by torch's own cross-entropy over all logits."""
    state = toys.state(model=model)
    own = batch.sources == source
    logits = state.model(batch.tokens[own], segments=batch.segments[own], positions=batch.positions[own])
    loss = functional.cross_entropy(logits.flatten(0, 1), batch.targets[own].flatten(), ignore_index=IGNORE)
    loss.backward()
    return loss.detach(), {n: p.grad for n, p in state.model.named_parameters() if p.grad is not None}


def whole_batch() -> Batch:
    return toys.mixture().batch(0, 0, 8)


def check_sum(loss: Tensor, gradients: dict[str, Tensor], model: ModelConfig) -> None:
    (text, of_text), (chat, of_chat) = (apart(whole_batch(), source, model) for source in (0, 1))
    torch.testing.assert_close(loss, text + 2.5 * chat, rtol=1e-6, atol=1e-6)
    assert gradients.keys() == of_text.keys() == of_chat.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, of_text[name] + 2.5 * of_chat[name], **CLOSE)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("rows", [8, 4, 2, 1])
def test_the_gradient_is_the_sum_of_the_two_apart(model: str, rows: int) -> None:
    batches = [toys.mixture().batch(0, at, rows) for at in range(0, 8, rows)]
    check_sum(*stepped(toys.state(model=MODELS[model]), batches, OBJECTIVES), MODELS[model])


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.integers(2, toys.CONTEXT_LENGTH), min_size=1, max_size=10),
    st.integers(1, 4),
)
def test_packed_conversations_learn_as_if_each_had_a_row(lengths: list[int], rows: int) -> None:
    """Of a decoder; an LSTM reads a row as one stream, and says so."""
    text = whole_batch()
    own = (text.sources == 0).nonzero().flatten().tolist()
    replayed = [
        Row(*(plane[i].numpy() for plane in (text.tokens, text.targets, text.segments, text.positions))) for i in own
    ]
    found = []
    for packed in (True, False):
        chat = conversation_rows(lengths, packed)
        numbered = [*((row, 0) for row in replayed), *((row, 1) for row in chat)]
        parts = [numbered[at : at + rows] for at in range(0, len(numbered), rows)] if packed else [numbered]
        batches = [collate([row for row, _ in part], [source for _, source in part]) for part in parts]
        found.append(stepped(toys.state(), batches, OBJECTIVES))
    (loss, gradients), (whole_loss, whole) = found
    torch.testing.assert_close(loss, whole_loss, rtol=1e-6, atol=1e-6)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, whole[name], **CLOSE)


def on_a_rank(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    mesh = join(
        ParallelConfig(),
        Rank(rank=rank, world_size=2, local_rank=rank, address="127.0.0.1", port=port),
        "cpu",
    )
    for name, model in MODELS.items():
        state = build_state(
            model, toys.VOCAB_SIZE, toys.training(), toys.EAGER, seed=3, device=torch.device("cpu"), mesh=mesh
        )
        batches = [toys.mixture().batch(0, at, 2) for at in (4 * rank, 4 * rank + 2)]
        loss, gradients = stepped(state, batches, OBJECTIVES)
        if rank == 0:
            torch.save({"loss": loss, "gradients": gradients}, Path(folder, f"{name}.pt"))
    leave()


@pytest.mark.slow
def test_two_ranks_have_the_sum_of_the_two_gradients(tmp_path: Path) -> None:
    port = free_port()
    run_ranks(on_a_rank, 2, port, str(tmp_path))
    for name, model in MODELS.items():
        found = torch.load(tmp_path / f"{name}.pt")
        check_sum(found["loss"], found["gradients"], model)


def test_weights_follow_their_course_and_are_logged(tmp_path: Path) -> None:
    config = toys.training(steps=4)
    course = replace(OBJECTIVES, weights_at=lambda step: (1.0, float(step)))
    assert course.at(3).weights == (1.0, 3.0) and course.at(3).named_weights() == {"lambda": 3.0}
    phase = replace(toys.phase(config), objectives=course)
    train(phase, toys.state(config), toys.EAGER, tmp_path / "stage", toys.journal(tmp_path / "stage"), StopRequest())
    lines = [line for line in read_lines(tmp_path / "stage" / "logs" / "metrics.jsonl") if "loss" in line]
    assert [line["lambda"] for line in lines] == [0.0, 1.0, 2.0, 3.0]
    for line in lines:
        assert line["loss"] == pytest.approx(line["loss_text"] + line["lambda"] * line["loss_chat"], rel=1e-5)


def test_weights_without_names_are_not_logged() -> None:
    assert toys.objectives().named_weights() == {} and toys.objectives().at(7) == toys.objectives()


def test_a_step_with_a_course_has_the_gradient_of_its_weight() -> None:
    course = replace(OBJECTIVES, weights=(1.0, 9.0), weights_at=lambda step: (1.0, 2.5))
    check_sum(*stepped(toys.state(), [whole_batch()], course.at(0)), toys.MODEL)
