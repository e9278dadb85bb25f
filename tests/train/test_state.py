"""State: the same start everywhere, and clear words when a batch or weights do not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from groundup.config import build as config_of
from groundup.errors import ModelFileError, RecipeError, ResourceError
from groundup.models import DecoderConfig
from groundup.parallel import ParallelConfig
from groundup.tokens import Batch, count_bigrams
from groundup.train.layout import check_batch, rows_per_micro_batch
from groundup.train.settings import ExecutionConfig
from groundup.train.start import start_from_bigrams
from groundup.train.state import build_state
from groundup.train.step import train_step
from groundup.train.way import way_to_compute
from tests.train import toys


def test_start_depends_on_the_seed_only() -> None:
    assert toys.equal_states(toys.state(), toys.state())


def test_start_weights_are_taken_whole() -> None:
    weights = {name: torch.randn_like(p) for name, p in toys.state().model.named_parameters()}
    state = toys.state(start=weights)
    assert all(torch.equal(p, weights[name]) for name, p in state.model.named_parameters())


def test_weights_that_do_not_fit_are_refused_by_name() -> None:
    weights = {name: p.detach().clone() for name, p in toys.state().model.named_parameters()}
    weights["norm.weight"] = torch.zeros(3)
    with pytest.raises(ModelFileError, match=r"norm\.weight: weights have shape \[3\], the model \[16\]"):
        toys.state(start=weights)
    del weights["norm.weight"]
    with pytest.raises(ModelFileError, match=r"missing \['norm\.weight'\]"):
        toys.state(start=weights)


def test_a_batch_must_give_every_rank_whole_rows() -> None:
    check_batch(context_length=16, global_batch_tokens=64, data_ranks=4)
    with pytest.raises(RecipeError, match="use 64"):
        check_batch(context_length=16, global_batch_tokens=100, data_ranks=4)


@pytest.mark.parametrize(("asked", "rows", "expected"), [(0, 32, 32), (0, 1000, 500), (5, 32, 4), (100, 6, 6)])
def test_micro_batches_divide_the_ranks_rows(asked: int, rows: int, expected: int) -> None:
    assert rows_per_micro_batch(ExecutionConfig(micro_batch_rows=asked), 16, rows) == expected


def test_a_start_from_bigrams_predicts_like_them_and_leaves_the_rest_alone() -> None:
    """In the toy's text a token is followed by the next number, mostly; the blocks are the identity at first."""
    config = toys.training()
    model = toys.MODEL.model_copy(update={"zero_init": True, "embedding_init_std": 0.5})
    batches = [toys.mixture().batch(step, 0, 4) for step in range(30)]
    state = build_state(model, toys.VOCAB_SIZE, config, toys.EAGER, 1, device=torch.device("cpu"))
    plain = {name: p.detach().clone() for name, p in state.model.named_parameters()}

    def loss() -> float:
        sums, counts = state.model(batches[0].tokens, targets=batches[0].targets)
        return float(sums.detach().sum() / counts.sum())

    before = loss()
    start_from_bigrams(state, count_bigrams(batches, toys.VOCAB_SIZE), 30, 1, config)
    assert loss() < 0.6 * before
    changed = {name for name, p in state.model.named_parameters() if not torch.equal(p, plain[name])}
    assert changed == {"embedding.weight", "head.weight"}
    assert float(state.model.embedding.weight.detach().square().mean().sqrt()) == pytest.approx(0.5, rel=0.01)


def test_a_start_with_induction_heads_predicts_what_repeats_itself_better_than_pairs_of_tokens() -> None:
    """Rows of random tokens, each row twice: of their pairs nothing is to be learnt."""
    model = toys.MODEL.model_copy(
        update={"zero_init": True, "embedding_init_std": 0.5, "hidden_size": 64, "head_dim": 32}
    )
    random = torch.Generator().manual_seed(2)
    rows = torch.stack([torch.randperm(toys.VOCAB_SIZE, generator=random)[:8] for _ in range(200)]).repeat(1, 2)
    places = torch.arange(16).expand_as(rows)
    batch = Batch(rows, rows.roll(-1, 1), torch.zeros_like(rows), places, torch.zeros(200, dtype=torch.int64))
    losses = {}
    for induction in (False, True):
        state = build_state(model, toys.VOCAB_SIZE, toys.training(), toys.EAGER, 1, device=torch.device("cpu"))
        start_from_bigrams(state, count_bigrams([batch], toys.VOCAB_SIZE), 30, 1, toys.training(), induction=induction)
        scores = state.model(rows)[:, 8:-1].detach().float()
        losses[induction] = float(torch.nn.functional.cross_entropy(scores.flatten(0, 1), rows[:, 9:].flatten()))
        assert float(state.model.embedding.weight.detach().square().mean().sqrt()) == pytest.approx(0.5, rel=0.01)
    assert losses[True] < losses[False] - 0.05


@pytest.mark.parametrize(
    ("changes", "way"),
    [
        ({"kernels": "off", "compile": "off"}, "eager"),
        ({"kernels": "off", "compile": "on"}, "compiled"),
        ({"exact": True}, "eager"),
        ({"compile": "on"}, "compiled"),
    ],
)
def test_the_way_to_compute_follows_the_runtime(changes: dict[str, Any], way: str) -> None:
    execution = ExecutionConfig.model_validate({"device": "cpu", **changes})
    assert way_to_compute(execution, toys.MODEL, toys.training(), 64, torch.device("cpu")) == way


def test_kernels_that_cannot_serve_are_refused_only_when_asked_for() -> None:
    device, narrow = torch.device("cpu"), toys.MODEL  # heads of width 8
    eager = ExecutionConfig(compile="off")
    assert way_to_compute(eager, narrow, toys.training(), 64, device) == "eager"
    with pytest.raises(ResourceError, match=r"runtime\.kernels is on, but .*; use runtime\.kernels=auto"):
        way_to_compute(ExecutionConfig(kernels="on"), narrow, toys.training(), 64, device)
    with pytest.raises(ValueError, match=r"kernels: on is for whole layers, and parallel\.tensor is 2"):
        ExecutionConfig(kernels="on", parallel=ParallelConfig(tensor=2))
    with pytest.raises(ValueError, match="kernels: on goes with compile: off or auto"):
        ExecutionConfig(kernels="on", compile="on")


FAMILIES: dict[str, dict[str, Any]] = {
    "window": {"sliding_window": 4},
    "qwen2": {"attention_bias": "qkv", "qk_norm": False},
    "gpt2": {"positions": "learned", "norm": "layer", "gated": False, "attention_bias": "all", "ffn_bias": True},
    "after": {"norm_placement": "after"},
    "gelu": {"activation": "gelu"},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_families_that_kernels_do_not_know_train_with_pytorch(name: str) -> None:
    """Without a word when the choice is left to us, with a reason when kernels are asked for; loss falls either way."""
    model = toys.MODEL.model_copy(update={"head_dim": 16, **FAMILIES[name]})
    execution, device = ExecutionConfig(compile="off", device="cpu"), torch.device("cpu")
    training = toys.training().model_copy(update={"precision": "bf16"})
    assert way_to_compute(execution, model, training, 64, device) == "eager"
    with pytest.raises(ResourceError, match=r"runtime\.kernels is on, but they do not know model\."):
        way_to_compute(ExecutionConfig(kernels="on"), model, training, 64, device)
    state = build_state(model, toys.VOCAB_SIZE, training, execution, 1, device=device)
    state.model.set_kernels(True)
    assert not any(getattr(module, "fused", False) for module in state.model.modules())
    losses = []
    for step in range(6):
        batch = toys.mixture().batch(step, 0, 8)
        result = train_step(state, [batch], toys.objectives(), learning_rate_factor=1.0, max_grad_norm=1.0)
        losses.append(float(result.loss))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("kind", ["linear", "dynamic", "yarn", "llama3"])
def test_kernels_know_stretched_positions(kind: str) -> None:
    scaling = config_of(
        DecoderConfig, {**toys.MODEL.model_dump(), "rope_scaling": {"kind": kind, "factor": 4.0}}, "toy"
    )
    assert scaling.kernels_obstacle() is None
