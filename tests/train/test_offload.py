"""Parameters that live on the CPU, and fp8: what a state is made of, clips by and refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.tensor import DTensor

from groundup.errors import RecipeError, ResourceError
from groundup.models import LoRAConfig, build_model
from groundup.parallel import ParallelConfig, Rank, alone, float8, join, leave, shard
from groundup.parallel.mesh import mesh_of_one
from groundup.parallel.recompute import Recompute
from groundup.train import checkpoint
from groundup.train.settings import ExecutionConfig
from groundup.train.state import TrainState, build_state
from groundup.train.step import clip_gradients, train_step
from tests.ports import free_port
from tests.ranks import run_ranks
from tests.train import toys

OFFLOAD = ParallelConfig(offload=True)
CHOICES = {
    "plain": ExecutionConfig(**{**toys.EAGER.model_dump(), "parallel": ParallelConfig()}),
    "offload": toys.EAGER.model_copy(update={"parallel": OFFLOAD}),
    "full": toys.EAGER.model_copy(update={"recompute": "full"}),
    "selective": toys.EAGER.model_copy(update={"recompute": "selective", "parallel": OFFLOAD}),
    "every": toys.EAGER.model_copy(update={"recompute": True, "recompute_every": 2}),
}
MODEL = toys.MODEL.model_copy(update={"residual_dropout": 0.1, "num_layers": 3})
STEPS = 3


def made(execution: ExecutionConfig, mesh: object = None, optimizer: str = "muon") -> TrainState:
    config, device = toys.training(optimizer=optimizer), torch.device("cpu")
    return build_state(MODEL, toys.VOCAB_SIZE, config, execution, 3, device=device, mesh=mesh)  # type: ignore[arg-type]


def stepped(state: TrainState) -> list[float]:
    """Losses and norms of some steps of two micro-batches each, clipped hard."""
    rows, mixture, found = 8 // state.data_size, toys.mixture(), []
    for step in range(STEPS):
        first = state.data_rank * rows
        batches = [mixture.batch(step, at, rows // 2) for at in (first, first + rows // 2)]
        done = train_step(state, batches, toys.objectives(), learning_rate_factor=1.0, max_grad_norm=0.05)
        found += [float(done.loss), float(done.grad_norm)]
    return found


def weights(state: TrainState) -> dict[str, torch.Tensor]:
    return {name: shard.full_tensor(p.detach()).clone() for name, p in state.model.named_parameters()}


def in_fp8(mesh: object) -> dict[str, float]:
    """A loss and the norm of its gradients, of a wide enough model in fp8, by the products of float32."""
    config = MODEL.model_copy(update={"hidden_size": 32, "residual_dropout": 0.0})
    with torch.device("meta"):
        model = build_model(config, toys.VOCAB_SIZE)
    names = [f"layers.{layer}.{part}" for layer in range(3) for part in ("attention.query", "ffn.up", "ffn.down")]
    float8.convert(model, names, mesh, emulate=True)  # type: ignore[arg-type]
    shard.apply(model, mesh=mesh, compute_dtype=torch.bfloat16, recompute=Recompute("selective"))  # type: ignore[arg-type]
    model.to_empty(device="cpu")
    model.initialise(0)
    tokens = torch.randint(0, toys.VOCAB_SIZE, (4, 16), generator=torch.Generator().manual_seed(1))
    with shard.gathered_for_reading(model):
        before = float(model(tokens).double().square().sum())
    mine = tokens if mesh is None else tokens.chunk(2)[torch.distributed.get_rank()]
    factor = 1 if mesh is None else 2
    loss = torch.zeros(())
    for _ in range(2):
        sums, _ = model(mine, targets=mine)
        (sums.sum() * factor).backward()
        loss = sums.detach().sum()
    if mesh is not None:
        torch.distributed.all_reduce(loss)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = shard.full_tensor(torch.nn.utils.get_total_norm(gradients))
    whole = {name: shard.full_tensor(p.detach()) for name, p in model.named_parameters()}
    assert all(type(value) is torch.Tensor for value in whole.values()), "plain, for a checkpoint"
    start = float(sum(value.double().abs().sum() for value in whole.values()))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
    optimizer.step()
    with shard.gathered_for_reading(model):
        after = float(model(tokens, targets=tokens)[0].sum())
    gathered = [type(shard.local_tensor(p.detach())).__name__ for p in model.parameters()]
    return {
        "loss": float(loss),
        "norm": float(norm),
        "before": before,
        "after": after,
        "start": start,
        "in_parts": float(gathered.count("WeightWithDynamicFloat8CastTensor")),
    }


def train(rank: int, world_size: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    mesh = None
    if world_size > 1:
        mesh = join(OFFLOAD, Rank(rank, world_size, rank, "127.0.0.1", port), "cpu")
    report: dict[str, object] = {}
    plain: dict[str, torch.Tensor] = {}
    for name, execution in CHOICES.items():
        state = made(execution, mesh)
        losses, found = stepped(state), weights(state)
        plain = plain or found
        same = all(torch.equal(found[key], plain[key]) for key in plain)
        report[name] = {"figures": losses, "same": same}
        if name == "offload":
            checkpoint.save(Path(folder, str(world_size)), state, {}, keep=1)
            if mesh is not None:
                torch.distributed.barrier()  # the first rank writes
            checkpoint.resume(Path(folder, str(world_size)), state, True, lambda path, fault: None)
            report["reloaded"] = all(torch.equal(value, found[key]) for key, value in weights(state).items())
    report["fp8"] = in_fp8(mesh)
    if rank == 0:
        Path(folder, f"{world_size}.json").write_text(json.dumps(report), encoding="utf-8")
    leave()


def test_two_ranks_offload_recompute_and_compute_in_fp8_as_one_does(tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    port = free_port()
    train(0, 1, 0, str(tmp_path))
    run_ranks(train, 2, 2, port, str(tmp_path))
    one, two = (json.loads((tmp_path / f"{n}.json").read_text(encoding="utf-8")) for n in (1, 2))
    for name in CHOICES:
        for report in (one, two):
            assert report[name]["same"] and report[name]["figures"] == report["plain"]["figures"], name
        assert two[name]["figures"] == pytest.approx(one[name]["figures"], rel=2e-3), name
    assert one["reloaded"] and two["reloaded"]
    assert (one["fp8"]["in_parts"], two["fp8"]["in_parts"]) == (0, 9)
    # The same numbers in fp8, whoever holds them; activations are scaled by the rows that a rank has.
    assert (two["fp8"]["before"], two["fp8"]["start"]) == (one["fp8"]["before"], one["fp8"]["start"])
    for figure, tolerance in (("loss", 5e-3), ("norm", 4e-2), ("after", 1e-2)):
        assert two["fp8"][figure] == pytest.approx(one["fp8"][figure], rel=tolerance), figure
    state = made(CHOICES["plain"])
    checkpoint.resume(tmp_path / "2", state, True, lambda path, fault: None)
    assert state.step == STEPS


def test_one_process_offloads_by_a_mesh_of_one() -> None:
    plain = made(CHOICES["plain"])
    mesh = mesh_of_one(OFFLOAD, "cpu")
    try:
        state = made(CHOICES["offload"], mesh)
        assert (state.world_size, state.data_size, state.data_rank) == (1, 1, 0)
        assert all(isinstance(parameter, DTensor) for parameter in state.model.parameters())
        assert stepped(state) == stepped(plain)
        assert all(torch.equal(value, weights(plain)[name]) for name, value in weights(state).items())
        assert shard.compute_device(state.model) == torch.device("cpu")
    finally:
        leave()
    assert alone(OFFLOAD, "cpu") is None and alone(ParallelConfig(), "cuda") is None


def test_parameters_live_on_the_cpu_only_where_they_are_offloaded() -> None:
    gpu, mesh = torch.device("cuda"), object()
    assert shard.home_of(gpu, mesh, offload=True) == torch.device("cpu")  # type: ignore[arg-type]
    assert shard.home_of(gpu, mesh, offload=False) == shard.home_of(gpu, None, offload=True) == gpu  # type: ignore[arg-type]


def test_gradients_on_the_cpu_are_clipped_by_a_loss_on_the_gpu() -> None:
    state = made(CHOICES["plain"])
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        for parameter in state.model.parameters():
            parameter.grad = mode.from_tensor(torch.ones_like(parameter))
        fine = torch.ones((), device="cuda") < 2
        norm, used = clip_gradients(replace(state, device=torch.device("cuda")), 1.0, fine)
    assert norm.device.type == used.device.type == "cuda"
    assert all(p.grad is not None and p.grad.device.type == "cpu" for p in state.model.parameters())


def test_eight_bit_moments_are_not_offloaded() -> None:
    pytest.importorskip("torchao")
    mesh = mesh_of_one(OFFLOAD, "cpu")
    try:
        state = made(CHOICES["offload"], mesh)
        parameter = next(iter(state.model.parameters()))
        group = {"params": [_on(parameter, "cuda")], "names": ["weight"]}
        with pytest.raises(RecipeError, match="sharded or offloaded parameters"):
            toys.RULES["adamw_8bit"].build([group])  # type: ignore[attr-defined]
    finally:
        leave()


def _on(parameter: torch.Tensor, device_type: str) -> DTensor:
    """A parameter on the CPU of a mesh of another kind of device."""
    assert isinstance(parameter, DTensor)
    mesh = parameter.device_mesh
    moved = DTensor.from_local(parameter.to_local(), mesh, parameter.placements)
    mesh._device_type = device_type
    return moved


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"recompute_budget": 0.5}, "recompute_budget is what torch.compile chooses by.*compile: auto"),
        ({"recompute_budget": 0.5, "compile": "on", "recompute": "full"}, "does not go with recompute: full"),
        ({"recompute_budget": 1.5, "compile": "on"}, "less than or equal to 1"),
        ({"recompute_every": 2}, "recompute_every: 2 is about recompute, which is off"),
        ({"recompute": "some"}, "recompute"),
    ],
)
def test_recomputation_that_cannot_be_is_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ExecutionConfig(**values)  # type: ignore[arg-type]


def test_true_and_full_are_one_choice() -> None:
    assert ExecutionConfig(recompute=True).recomputation == ExecutionConfig(recompute="full").recomputation
    assert ExecutionConfig(recompute=True, recompute_every=3).recomputation == Recompute("full", 3)
    assert ExecutionConfig().recomputation == Recompute()
    assert ExecutionConfig(recompute_budget=0.5, compile="on").recomputation == Recompute(budget=0.5)


def test_fp8_is_refused_by_name_where_it_cannot_be() -> None:
    with pytest.raises(ResourceError, match="precision: fp8 needs a GPU that has it, and the device is cpu") as caught:
        toys.state(toys.training(precision="fp8"))
    assert caught.value.exit_code == 6
    with pytest.raises(RecipeError, match=r"model\.kind: lstm has none"):
        toys.state(toys.training(precision="fp8"), toys.LSTM)
    with pytest.raises(RecipeError, match=r"fp8 is not for tune\.kind: lora"):
        toys.state(toys.training(precision="fp8"), tune=LoRAConfig(rank=2))
