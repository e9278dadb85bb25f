"""Ranks that share every layer do what one does: losses, norms, dropout, validation, checkpoints, every optimizer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch._dynamo.utils import counters

from groundup.errors import RecipeError
from groundup.models import LossConfig
from groundup.optim import flat_state
from groundup.parallel import ParallelConfig, Rank, join, leave, shard
from groundup.parallel.fake import fake_world
from groundup.train import checkpoint
from groundup.train.average import AverageConfig
from groundup.train.layout import check_tensor
from groundup.train.settings import ExecutionConfig
from groundup.train.state import TrainState, build_state
from groundup.train.step import train_step
from tests.ports import free_port
from tests.ranks import run_ranks
from tests.train import toys
from tests.train.kinds import CASES, Case, decoder

NOISE = {"embedding_dropout": 0.1, "attention_dropout": 0.2, "residual_dropout": 0.1, "stochastic_depth": 0.3}
FAMILIES = [name for name in CASES if name.endswith("next token") and not name.startswith("lstm")]
NOISY = CASES["qwen3: next token"].model.model_copy(update={**NOISE, "num_kv_heads": 2})
TRIED = {
    **{name: CASES[name] for name in FAMILIES},
    "two heads of keys": replace(CASES["qwen3: mixture"], model=toys.MODEL.model_copy(update={"num_kv_heads": 2})),
    "dropout": replace(CASES["qwen3: mixture"], model=NOISY),
    "qwen3: dpo": CASES["qwen3: dpo"],
    "qwen3: kto": CASES["qwen3: kto"],
}
RULES = [name for name in toys.RULES if name != "adamw_8bit"]
STEPS = 2
ODD_VOCABULARY = toys.VOCAB_SIZE + 1


def steps(state: TrainState, case: Case, count: int = STEPS) -> list[list[float]]:
    """Losses and norms of steps from the state's own on, of two micro-batches each."""
    rows, mixture, found = 8 // state.data_size, case.mixture(), []
    for step in range(state.step, state.step + count):
        first = state.data_rank * rows
        batches = [mixture.batch(step, at, rows // 2) for at in (first, first + rows // 2)]
        result = train_step(state, batches, case.objectives, learning_rate_factor=1.0, max_grad_norm=0.5)
        found.append([float(result.loss), float(result.grad_norm)])
    return found


def read(state: TrainState) -> list[float]:
    """What the model says of rows whose length no number of ranks divides, in scores and in losses."""
    tokens = toys.mixture().batch(0, 0, 3).tokens[:, :13]
    with shard.gathered_for_reading(state.model):
        sums, _ = state.model(tokens, targets=tokens)
        scores = state.model(tokens)
    assert scores.shape == (3, 13, state.model.vocab_size)
    return [*sums.tolist(), float(scores.double().square().sum())]


def tried(mesh: Any, execution: ExecutionConfig, names: Sequence[str]) -> dict[str, Any]:
    """Losses, norms and readings of every case."""
    found = {}
    for name in names:
        case, plain = TRIED[name], toys.training(optimizer="adamw")
        if case.rule is not None:
            state = case.state(plain, mesh=mesh)
        else:
            vocab_size = ODD_VOCABULARY if name == "mistral: next token" else toys.VOCAB_SIZE
            training = plain.model_copy(update={"loss": LossConfig(label_smoothing=0.1, z_loss=1e-3)})
            device = torch.device("cpu")
            state = build_state(case.model, vocab_size, training, execution, 3, device=device, mesh=mesh)
        found[name] = {"steps": steps(state, case), "read": read(state)}
    return found


def ruled(mesh: Any, folder: Path, rules: Sequence[str]) -> dict[str, Any]:
    """The same of every optimizer, each saved at its end, and going on from where one rank was."""
    found, case = {}, TRIED["two heads of keys"]
    for rule in rules:
        state = case.state(toys.training(optimizer=rule, average=AverageConfig(decay=0.5)), mesh=mesh)
        found[rule] = {"steps": steps(state, case)}
        checkpoint.save(folder / rule, state, {}, keep=1)
    return found


def gone_on(mesh: Any, folder: Path, rules: Sequence[str]) -> dict[str, Any]:
    """Every optimizer from what is in `folder` on; what was taken back must be the file's, to the bit."""
    found, case = {}, TRIED["two heads of keys"]
    for rule in rules:
        state = case.state(toys.training(optimizer=rule, average=AverageConfig(decay=0.5)), mesh=mesh)
        checkpoint.resume(folder / rule, state, True, lambda path, fault: None)
        kept = {**dict(state.model.named_parameters()), **flat_state(state.optimizer)}
        whole = {name: shard.full_tensor(value.detach()) for name, value in kept.items()}
        files = [folder / rule / "step-00000002" / name for name in (checkpoint.WEIGHTS, checkpoint.OPTIMIZER)]
        for name, value in (entry for file in files for entry in checkpoint.read_tensors(file).items()):
            assert name.startswith("param_groups") or torch.equal(whole[name], value), (rule, name)
        found[rule] = steps(state, case, 1)
    return found


def work(
    rank: int, ranks: int, port: int, folder: str, config: ParallelConfig, names: list[str], rules: list[str]
) -> None:
    torch.set_num_threads(1)
    mesh = join(config, Rank(rank, ranks, rank, "127.0.0.1", port), "cpu") if ranks > 1 else None
    here = Path(folder, str(ranks))
    found = {"cases": tried(mesh, toys.EAGER, names), "rules": ruled(mesh, here, rules)}
    if ranks > 1:
        found["gone_on"] = gone_on(mesh, Path(folder, "1"), rules)
        recomputing = toys.EAGER.model_copy(update={"recompute": True})
        found["recomputed"] = tried(mesh, recomputing, ["dropout"])
    if rank == 0:
        here.with_suffix(".json").write_text(json.dumps(found), encoding="utf-8")
    leave()


def compare(folder: Path, ranks: int, config: ParallelConfig, names: list[str], rules: list[str]) -> None:
    """Several ranks beside one, with both ways through a checkpoint."""
    work(0, 1, 0, str(folder), ParallelConfig(), names, rules)
    run_ranks(work, ranks, ranks, free_port(), str(folder), config, names, rules)
    one, many = (json.loads((folder / f"{n}.json").read_text(encoding="utf-8")) for n in (1, ranks))
    for name, expected in one["cases"].items():
        found = many["cases"][name]
        assert found["steps"][0] == pytest.approx(expected["steps"][0], rel=1e-6), name
        assert found["steps"][1] == pytest.approx(expected["steps"][1], rel=1e-5), name
        assert found["read"] == pytest.approx(expected["read"], rel=1e-5), name
    assert many["recomputed"]["dropout"] == many["cases"]["dropout"]
    ours, theirs = (gone_on(None, folder / number, rules) for number in ("1", str(ranks)))
    for rule, expected in one["rules"].items():
        tolerance = 1e-3 if rule == "muon" else 1e-5  # Muon rounds to bfloat16 on its way
        for first, other in zip(expected["steps"], many["rules"][rule]["steps"]):
            assert other == pytest.approx(first, rel=tolerance), rule
        assert many["gone_on"][rule][0] == pytest.approx(ours[rule][0], rel=tolerance), rule
        assert theirs[rule][0] == pytest.approx(ours[rule][0], rel=2 * tolerance), rule


def test_two_ranks_that_share_every_layer_train_like_one(tmp_path: Path) -> None:
    names = ["mistral: next token", "gpt2: next token", "classic, norms behind: next token", "dropout", "qwen3: dpo"]
    compare(tmp_path, 2, ParallelConfig(tensor=2), names, ["adamw", "muon"])


@pytest.mark.slow
def test_all_families_and_optimizers(tmp_path: Path) -> None:
    compare(tmp_path, 2, ParallelConfig(tensor=2), list(TRIED), RULES)


@pytest.mark.slow
@pytest.mark.parametrize("shard_size", [0, 1])
def test_four_ranks_share_layers_and_rows(tmp_path: Path, shard_size: int) -> None:
    names = ["qwen3: next token", "gpt2: next token", "dropout"]
    compare(tmp_path, 4, ParallelConfig(tensor=2, shard=shard_size), names, RULES)


@pytest.mark.parametrize(
    ("model", "ranks", "says"),
    [
        (toys.MODEL, 4, "it does not divide model.num_heads 2; use 1 or 2"),
        (toys.MODEL.model_copy(update={"num_heads": 12, "num_kv_heads": 4}), 6, "num_kv_heads 4 nor is a multiple"),
        (toys.MODEL.model_copy(update={"ffn_size": 33}), 2, "it does not divide model.ffn_size 33; use 1"),
        (toys.LSTM, 2, "model.kind: lstm cannot be shared out so far; use 1"),
        (CASES["encoder: masked"].model, 2, "model.kind: encoder cannot be shared out so far; use 1"),
    ],
)
def test_what_cannot_be_shared_is_refused_by_name(model: Any, ranks: int, says: str) -> None:
    check_tensor(model, 1)
    with pytest.raises(RecipeError, match=says):
        check_tensor(model, ranks)


def test_a_rank_holds_its_part_only_and_the_sums_are_few() -> None:
    with fake_world(4, ParallelConfig(tensor=2)) as mesh:
        config = decoder("gpt2").model_copy(update={"num_kv_heads": 2, "tied": False})
        state = build_state(config, 64, toys.training(), toys.EAGER, 3, device=torch.device("cpu"), mesh=mesh)
        parameters = dict(state.model.named_parameters())
        held = {name: shard.local_tensor(p).numel() / p.numel() for name, p in parameters.items()}
        vectors = {name for name, p in parameters.items() if p.ndim == 1 and "norm" in name}
        row_biases = {name for name in held if name.endswith(("output.bias", "down.bias"))}
        assert {name for name, part in held.items() if part == 0.5} == vectors | row_biases | {"positions.weight"}
        assert {part for name, part in held.items() if part != 0.5} == {0.25}
        seen: list[str] = []
        real = dist.all_reduce

        def counted(*args: Any, **named: Any) -> Any:
            seen.append("all_reduce")
            return real(*args, **named)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(dist, "all_reduce", counted)
            steps_in_fake(state)
        assert len(seen) == 4, "targets, losses, and the norm over two dimensions"


def steps_in_fake(state: TrainState) -> None:
    case = CASES["qwen3: next token"]
    batch = case.mixture().batch(0, 0, 4)
    result = train_step(state, [batch], case.objectives, learning_rate_factor=1.0, max_grad_norm=1.0)
    assert result.loss.shape == ()


def compiled(rank: int, ranks: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    mesh = join(ParallelConfig(tensor=ranks), Rank(rank, ranks, rank, "127.0.0.1", port), "cpu") if ranks > 1 else None
    case = CASES["qwen3: next token"]
    model = case.model.model_copy(update={"num_layers": 10})
    execution = toys.EAGER.model_copy(update={"compile": "on" if ranks > 1 else "off", "recompute": True})
    device = torch.device("cpu")
    state = build_state(
        model, toys.VOCAB_SIZE, toys.training(optimizer="adamw"), execution, 3, device=device, mesh=mesh
    )
    found = {"steps": steps(state, case), "graphs": counters["stats"]["unique_graphs"]}
    Path(folder, f"{ranks}-{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    leave()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_compiled_layers_share_one_graph_on_ranks_that_share_them(tmp_path: Path) -> None:
    compiled(0, 1, 0, str(tmp_path))
    run_ranks(compiled, 2, 2, free_port(), str(tmp_path))
    one, *two = (json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8")) for name in ("1-0", "2-0", "2-1"))
    for rank in two:
        assert rank["graphs"] == 3, "all blocks, the last norm, a chunk of the loss"
        for first, other in zip(one["steps"], rank["steps"]):
            assert other == pytest.approx(first, rel=1e-5)
