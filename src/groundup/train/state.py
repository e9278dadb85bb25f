"""One `build_state` for every phase, for real and simulated runs: configs -> model, optimizer and where they live.

    build on meta -> adapters -> cut into stages -> fp8 -> tensor parallel -> recompute -> compile per block -> FSDP2
    -> materialise -> initialise by name -> optimizer

Invariant: the state depends on (model config, training config, seed) only; `runtime` decides place and speed. The same
function runs under fake tensors on a fake process group, where the planner reads memory and FLOPs off it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from groundup.errors import RecipeError
from groundup.models import (
    LowRankConfig,
    Network,
    NetworkConfig,
    TuneConfig,
    build_model,
    tuning,
)
from groundup.models.adapters import MARK
from groundup.models.stages import divide
from groundup.optim import (
    LayersConfig,
    Optimizer,
    build_optimizer,
    by_layer,
)
from groundup.parallel import float8, pipeline, shard
from groundup.parallel.mesh import PIPELINE, TENSOR, data_rank, data_size, degree
from groundup.parallel.ordered import in_order
from groundup.parallel.passes import Passes, one_after_another
from groundup.train.average import WeightAverage
from groundup.train.layout import check_base, check_batch, check_fp8, check_ranks, check_tensor, stages_obstacle
from groundup.train.loading import load_tensors
from groundup.train.settings import FULL, ExecutionConfig, TrainingConfig, dtype_of
from groundup.train.way import way_to_compute


@dataclass
class TrainState:
    """Everything a step changes, and where it lives."""

    model: Network
    optimizer: Optimizer
    device: torch.device
    mesh: DeviceMesh | None = None
    step: int = 0
    uses_kernels: bool = False
    seed: int = 0
    """Of dropout, with the step."""
    memory: dict[str, Tensor] = field(default_factory=dict)
    """What the model carries from step to step for this rank's rows, [rows, ...] each; most models carry nothing."""
    average: WeightAverage | None = None
    """The mean of the weights, where the recipe asks for one."""
    kept: Mapping[str, Tensor] = field(default_factory=dict)
    """What a checkpoint holds of the model: all parameters, or those that learn where the others are given again."""
    exact: bool = False
    """Every micro-batch is a virtual shard, and sums over them are made in an order that ranks do not change."""
    updating: bool = False
    """True while the optimizer changes the parameters: a step that fails then cannot be done again."""
    passes: Passes = one_after_another
    """How the micro-batches of a step go through the model and back."""
    scored_by: Sequence[torch.nn.Module] = ()
    """The modules whose forward gives losses; none where other ranks have them."""

    @property
    def world_size(self) -> int:
        """All ranks that train together."""
        return self.mesh.size() if self.mesh is not None else 1

    @property
    def rank(self) -> int:
        """This process's place among them."""
        return self.mesh.get_rank() if self.mesh is not None else 0

    @property
    def data_size(self) -> int:
        """Groups of ranks that share one global batch, each with rows of its own."""
        return data_size(self.mesh)

    @property
    def data_rank(self) -> int:
        """This process's group among them."""
        return data_rank(self.mesh)


def build_state(
    model_config: NetworkConfig,
    vocab_size: int,
    training: TrainingConfig,
    execution: ExecutionConfig,
    seed: int,
    *,
    device: torch.device,
    mesh: DeviceMesh | None = None,
    start: Mapping[str, Tensor] | None = None,
    layers: LayersConfig | None = None,
    tune: TuneConfig = FULL,
) -> TrainState:
    """Model and optimizer of one phase on `device`, sharded over `mesh`; weights from `start` or from the seed.

    `layers` says which of the model's layers learn and how fast, `tune` whether they learn whole or by adapters.
    Raises ModelFileError when `start` does not fit the model, RecipeError when the batch does not fit the ranks,
    ResourceError when the runtime asks for kernels, or the phase for a precision, that this machine cannot run.
    """
    check_batch(model_config.context_length, training.global_batch_tokens, data_size(mesh))
    if execution.exact and mesh is not None:
        check_ranks(execution, model_config.context_length, training.global_batch_tokens, mesh.size())
    check_tensor(model_config, degree(mesh, TENSOR))
    low_rank = tune if isinstance(tune, LowRankConfig) else None
    check_base(tune, is_alone=mesh is None)
    way = way_to_compute(execution, model_config, training, vocab_size, device)
    with torch.device("meta"):
        model = build_model(model_config, vocab_size)
    if degree(mesh, PIPELINE) > 1 and (obstacle := stages_obstacle(model_config, training, layers)):
        raise RecipeError(obstacle)
    depths = _learning(model, layers, low_rank)
    division = pipeline.divided(model, divide, mesh, execution.parallel, device)
    sharded_over = None if execution.exact else mesh
    if training.precision == "fp8":
        check_fp8(model, tune, execution.parallel)
        float8.require(device)
        float8.convert(model, list(tuning.linear_layers(model)), sharded_over)
    shard.apply(
        model,
        mesh=sharded_over,
        compute_dtype=dtype_of(training.precision),
        # Our kernels take float32 masters and round what they multiply; gains would be rounded on the way.
        gather_dtype=torch.float32 if way == "kernels" else None,
        recompute=execution.recomputation,
        compile_blocks=way == "compiled",
        offload=execution.parallel.offload,
        context_attention=execution.parallel.context_attention,
        roots=division.roots,
    )
    if low_rank is not None and sharded_over is None:
        tuning.narrow(model, dtype_of(training.precision))
    model.set_loss(training.loss)
    model.set_kernels(way == "kernels")
    model.to_empty(device=shard.home_of(device, sharded_over, offload=execution.parallel.offload))
    model.initialise(seed)
    if start is not None:
        own = {name: p for name, p in model.named_parameters() if MARK not in name}
        load_tensors(own, start, model.elsewhere)
    if low_rank is not None:
        tuning.begin(model, low_rank, seed, shard.full_tensor)
    learning = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimizer = build_optimizer(
        training.optimizer,
        learning,
        model.matrix_parameters() & learning.keys(),
        model.head_name,
        {name: model.growth(name) for name in learning},
        elsewhere=model.elsewhere,
    )
    if layers is not None:
        by_layer(optimizer, {name: depths[name] for name in learning}, layers)
    rows = training.global_batch_tokens // model_config.context_length // data_size(mesh)
    return TrainState(
        model=model,
        optimizer=optimizer,
        device=device,
        mesh=mesh,
        uses_kernels=way == "kernels",
        seed=seed,
        memory=model.memory(rows, device),
        average=WeightAverage(training.average, learning) if training.average else None,
        kept=dict(model.named_parameters()) if start is None else learning,
        exact=execution.exact,
        passes=in_order(mesh) if execution.exact else division.passes,
        scored_by=division.scored_by,
    )


def _learning(model: Network, layers: LayersConfig | None, low_rank: LowRankConfig | None) -> dict[str, int]:
    """Layer of each parameter, where layers matter; freezes what does not learn, and puts adapters on."""
    if low_rank is not None:
        tuning.attach(model, low_rank, None if layers is None else layers.trained_layers)
    if layers is None:
        return {}
    depths = {name: model.depth(name) for name, _ in model.named_parameters()}
    top = max(depths.values())
    if obstacle := layers.obstacle(top - 1, None):
        raise RecipeError(obstacle)
    lowest = layers.lowest(top)
    for name, parameter in model.named_parameters():
        learns = low_rank is not None or depths[name] >= lowest
        parameter.requires_grad_(parameter.requires_grad and learns)
    return depths
