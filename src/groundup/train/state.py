"""One `build_state` for every phase, for real and simulated runs: configs -> model, optimizer and where they live.

    build on meta -> cut into stages -> fp8 -> tensor parallel -> recompute -> compile per block -> FSDP2
    -> materialise -> initialise by name -> optimizer

Invariant: the state depends on (model config, training config, seed) only; `runtime` decides place and speed. The same
function runs under fake tensors on a fake process group, where the planner reads memory and FLOPs off it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from groundup.config import Config
from groundup.errors import ModelFileError, RecipeError, ResourceError
from groundup.kernels import ops
from groundup.log import logger
from groundup.models import (
    Decoder,
    DecoderConfig,
    EncoderConfig,
    FullTuning,
    Labeller,
    LossConfig,
    LowRankConfig,
    Network,
    NetworkConfig,
    PreferenceLossConfig,
    TuneConfig,
    build_model,
    tuning,
)
from groundup.models.adapters import MARK
from groundup.models.bigrams import PairCounts, bigram_tables
from groundup.models.stages import divide
from groundup.optim import (
    LayersConfig,
    MuonConfig,
    Optimizer,
    OptimizerConfig,
    PlateauConfig,
    ScheduleConfig,
    ScheduleFreeConfig,
    WSDConfig,
    build_optimizer,
    by_layer,
)
from groundup.parallel import ParallelConfig, check_layout, float8, pipeline, shard
from groundup.parallel.host import keep_freed_memory
from groundup.parallel.mesh import PIPELINE, TENSOR, data_rank, data_size, degree
from groundup.parallel.ordered import in_order
from groundup.parallel.passes import Passes, one_after_another
from groundup.parallel.recompute import Recompute
from groundup.tokens import Bigrams
from groundup.train.average import AverageConfig, WeightAverage
from groundup.train.spikes import SpikesConfig
from groundup.train.stopping import EarlyStoppingConfig, ValidationConfig
from groundup.train.stored import ReadTensors, StoredTensor
from groundup.train.virtual_shards import check_exact, virtual_shard_rows

Way = Literal["kernels", "compiled", "eager"]
"""How the blocks of a model are computed: by our own kernels, by torch.compile, or operator by operator."""

Precision = Literal["bf16", "fp32", "fp8"]
"""Number formats of a phase; fp8 is that of the products of hidden matrices, with bf16 around them."""

FULL = FullTuning()
"""The usual way to tune: every weight learns."""

MICRO_BATCHES_PER_RANK = 4
"""Micro-batches of a step for each rank of a pipeline, where rows allow it: less than a fifth of the time is lost."""

COMPILE_WORTH_FLOPS = 1.5e13
"""Below this much work for a phase, `compile: auto` stays eager: compiling would take longer than it saves."""


class TrainingConfig(Config):
    """What every phase has: a budget, a batch, an optimizer and a schedule. All of it is identity."""

    tokens: int = Field(gt=0)
    """Budget: positions (padding included) that the phase trains on."""
    global_batch_tokens: int = Field(default=8192, gt=0)
    """Positions of one step over all micro-batches and ranks; a multiple of model.context_length."""
    optimizer: OptimizerConfig = MuonConfig()
    """Which rule updates which parameter."""
    schedule: ScheduleConfig = WSDConfig()
    """Learning rate over the steps."""
    loss: LossConfig = LossConfig()
    """What is added to cross-entropy."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients with a larger global norm are scaled down to it."""
    precision: Precision = "bf16"
    """Number format of activations and matrix products; weights and optimizer state are always fp32. fp8: bf16, but for
    the products of hidden matrices; for GPUs that have it, with `pip install 'groundup[fp8]'`."""
    validation: ValidationConfig | None = None
    """When to validate where the schedule or early stopping depends on it; else runtime says when."""
    early_stopping: EarlyStoppingConfig | None = None
    """End before the budget is spent, when validation no longer improves; needs `validation`."""
    average: AverageConfig | None = None
    """Validate and keep a running mean of the weights."""
    max_skipped_steps: int = Field(default=8, ge=0)
    """The run stops as diverged after this many steps in a row with non-finite gradients, or losses a hundred times
    those of the first."""
    spikes: SpikesConfig | None = None
    """What is done about losses that jump; without it nothing is."""

    @model_validator(mode="after")
    def _decided_by_validation(self) -> TrainingConfig:
        for what, asked in (
            ("schedule.kind: reduce_on_plateau", isinstance(self.schedule, PlateauConfig)),
            ("early_stopping", self.early_stopping is not None),
        ):
            if asked and self.validation is None:
                raise ValueError(
                    f"{what} needs validation: {{every_steps: ..., rows: ...}}; the result depends on both"
                )
        if self.early_stopping is not None and self.spikes is not None and self.spikes.action == "rollback":
            raise ValueError("spikes.action: rollback would undo what early_stopping decided; use action: skip")
        return self

    def total_steps(self) -> int:
        """Optimizer steps in the budget, at least one."""
        return max(1, self.tokens // self.global_batch_tokens)


class ExecutionConfig(Config):
    """`runtime:` as far as training reads it: changes speed or place, never the result beyond rounding."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes a GPU when PyTorch sees one."""
    devices: int = Field(default=1, ge=1)
    """Processes (ranks) that train together on each machine, one a GPU or sharing its cores; torchrun starts them."""
    nodes: int = Field(default=1, ge=1)
    """Machines that train together; the command is started on each of them, by itself or by torchrun."""
    min_nodes: int = Field(default=0, ge=0)
    """Machines with which it goes on where others were lost, until they come back (0: all `nodes`, no fewer)."""
    rendezvous: str = Field(default="", pattern=r"^(|[A-Za-z0-9_.-]+:[1-9][0-9]{0,4})$")
    """HOST:PORT of one of several machines, at which all meet; empty: something like torchrun starts the ranks."""
    restarts: int = Field(default=3, ge=0)
    """Times in a row, without a checkpoint saved in between, that ranks are started again after one of them was killed,
    hung or lost; then the command ends (exit code 8). 0: it ends at once."""
    parallel: ParallelConfig = ParallelConfig()
    """How the work is split over the ranks."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of a process (0: all cores it may use, shared by the ranks of a machine)."""
    kernels: Literal["auto", "on", "off"] = "auto"
    """Groundup's own CPU kernels for bf16; auto takes them where they run (Linux, avx512_bf16, a C++ compiler)."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile where the kernels do not serve; auto compiles when the phase is long enough to pay for it."""
    micro_batch_rows: int = Field(default=0, ge=0)
    """Rows of one forward and backward on a rank (0: as many as make about 8,192 tokens). With `exact` other rows are
    another order of sums, and 0 leaves enough micro-batches for 8 ranks."""
    recompute: Literal[False, True, "full", "selective"] = False
    """Recompute activations in the backward pass. full (or true): all, least memory for about a third more time;
    selective: all but what attention and every other matrix product gave, between that and false."""
    recompute_every: int = Field(default=1, ge=1)
    """Of so many blocks one is recomputed (1: all), the others keep their activations."""
    recompute_budget: float | None = Field(default=None, ge=0, le=1)
    """Share of its activations that a compiled block may keep (0 to 1); torch.compile chooses which. In place of
    `recompute`, and with compile: on."""
    exact: bool = False
    """The same bits with 1, 2, 4, ... ranks: no compiled and no own kernels, deterministic ones only, one thread where
    `threads` is 0, and sums over micro-batches in a fixed order. Ranks need `parallel.shard: 1`."""
    validate_every_steps: int = Field(default=50, ge=0)
    """Steps between validations (0: only at the end)."""
    validation_rows: int = Field(default=64, gt=0)
    """At most this many rows of context_length tokens are used for a validation during training."""
    checkpoint_every_seconds: float = Field(default=60.0, gt=0)
    """Longest time of work that a kill may lose."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Checkpoints kept while a phase runs."""
    asynchronous_checkpoints: bool = True
    """Write checkpoints while training goes on, from a copy in memory; false: wait for each, without the copy."""
    step_timeout_seconds: float = Field(default=0.0, ge=0)
    """A step that takes longer hangs: stacks are written, the process ends. 0: 20 times the longest seen, 600 or more.
    """
    checkpoint_timeout_seconds: float = Field(default=0.0, ge=0)
    """As for a step: the copy for a checkpoint, and the wait for the one before."""
    validation_timeout_seconds: float = Field(default=0.0, ge=0)
    """As for a step: a validation."""
    check_ranks_every_steps: int = Field(default=100, ge=0)
    """Steps between comparisons of what several ranks hold copies of, to the bit, also ahead of each validation and
    checkpoint (0: never)."""
    max_failed_attempts: int = Field(default=5, ge=0)
    """Attempts in a row that may end at the same step without a reason, before one is refused (0: any number)."""
    test_faults: bool = False
    """Let the environment's FAULT make faults on purpose, for tests."""

    @property
    def ranks(self) -> int:
        """Processes that train together."""
        return self.devices * self.nodes

    @property
    def fewest_nodes(self) -> int:
        """Machines without which it does not go on."""
        return self.min_nodes or self.nodes

    @property
    def world_sizes(self) -> tuple[int, ...]:
        """Every number of ranks that may train together, the usual one first."""
        return tuple(self.devices * nodes for nodes in range(self.nodes, self.fewest_nodes - 1, -1))

    @model_validator(mode="after")
    def _grouped(self) -> ExecutionConfig:
        if self.min_nodes > self.nodes:
            raise ValueError(f"min_nodes: {self.min_nodes} machines are more than nodes: {self.nodes}; lower it")
        for size in self.world_sizes if self.ranks > 1 else ():
            try:
                check_layout(self.parallel, size)
            except RecipeError as error:
                raise ValueError(error.message) from None
        return self

    @property
    def recomputation(self) -> Recompute:
        """What blocks compute again."""
        return Recompute(Recompute.of(self.recompute).kind, self.recompute_every, self.recompute_budget)

    @model_validator(mode="after")
    def _recomputes_one_way(self) -> ExecutionConfig:
        if self.recompute_budget is not None and (self.recompute or self.compile != "on"):
            what = f"recompute: {self.recompute}" if self.recompute else f"compile: {self.compile}"
            raise ValueError(
                f"recompute_budget is what torch.compile chooses by, which does not go with {what}; set compile: on"
                " and leave recompute out"
            )
        if self.recompute_every > 1 and not self.recompute:
            raise ValueError(
                f"recompute_every: {self.recompute_every} is about recompute, which is off;"
                " set recompute: full or selective"
            )
        return self

    @model_validator(mode="after")
    def _exact_is_eager(self) -> ExecutionConfig:
        if self.exact and self.compile == "on":
            raise ValueError("exact: true needs compile: off or auto, compiled kernels may round differently")
        if self.kernels == "on" and (self.exact or self.compile == "on"):
            raise ValueError("kernels: on goes with compile: off or auto, and without exact; use kernels: auto")
        if self.exact and self.parallel.offload:
            raise ValueError("exact: true keeps parameters where it computes; leave parallel.offload out")
        if self.parallel.context > 1 and self.compile == "on":
            raise ValueError(
                f"parallel.context: {self.parallel.context} needs compile: off or auto; ranks talk within the blocks"
            )
        return self


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


def pick_device(execution: ExecutionConfig) -> torch.device:
    """The device asked for. Raises ResourceError when it is not there."""
    if execution.device == "cuda" and not torch.cuda.is_available():
        raise ResourceError("runtime.device is cuda, but PyTorch sees no GPU here; use runtime.device=cpu (or auto)")
    use_gpu = execution.device == "cuda" or (execution.device == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if use_gpu else "cpu")


def configure_threads(execution: ExecutionConfig, processes: int = 1) -> int:
    """Set the number of CPU threads and return it; freed memory is kept from then on.

    `processes`: so many share the cores of this machine.
    """
    keep_freed_memory()
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # How many threads share a sum decides how it is rounded; with `exact` ranks and cores must not.
    threads = execution.threads or (1 if execution.exact else max(1, available // processes))
    torch.set_num_threads(threads)
    if execution.exact:
        torch.use_deterministic_algorithms(True)
    return threads


def way_to_compute(
    execution: ExecutionConfig, model: NetworkConfig, training: TrainingConfig, vocab_size: int, device: torch.device
) -> Way:
    """How blocks are computed; depends on recipe and machine only, so a resumed run decides the same.

    Raises ResourceError when `kernels: on` cannot be had.
    """
    if execution.kernels == "on" or (execution.kernels == "auto" and not execution.exact and execution.compile != "on"):
        obstacle = _kernels_obstacle(model, training, device, execution.parallel)
        if obstacle is None:
            return "kernels"
        if execution.kernels == "on":
            raise ResourceError(f"runtime.kernels is on, but {obstacle}; use runtime.kernels=auto")
    return "compiled" if _wants_compile(execution, model, training, vocab_size) else "eager"


def _kernels_obstacle(
    model: NetworkConfig, training: TrainingConfig, device: torch.device, parallel: ParallelConfig
) -> str | None:
    if parallel.tensor > 1:
        return f"they compute whole layers, and runtime.parallel.tensor is {parallel.tensor}"
    if device.type != "cpu":
        return f"they are for the CPU, and the device is {device.type}"
    if training.precision != "bf16":
        return f"they compute in bf16, and precision is {training.precision}"
    if unknown := model.kernels_obstacle():
        return unknown
    if isinstance(model, DecoderConfig | EncoderConfig) and not ops.fits(model.head_size):
        return f"heads of width {model.head_size} do not fit them (multiples of 16 do)"
    return ops.why_not()


def _wants_compile(execution: ExecutionConfig, model: NetworkConfig, training: TrainingConfig, vocab_size: int) -> bool:
    if execution.exact or execution.compile == "off" or execution.parallel.context > 1:
        return False
    if execution.compile == "on":
        return True
    if not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        logger.info("no C++ compiler: training runs uncompiled (slower); `groundup doctor` says how to mend it")
        return False
    return training.tokens * model.flops_per_token(vocab_size) > COMPILE_WORTH_FLOPS


def dtype_of(precision: Precision) -> torch.dtype:
    """The number format of activations that a recipe's `precision` means."""
    return torch.float32 if precision == "fp32" else torch.bfloat16


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
    check_tensor(model_config, degree(mesh, TENSOR), tune)
    low_rank = tune if isinstance(tune, LowRankConfig) else None
    if mesh is not None and low_rank is not None and low_rank.base != "unchanged":
        raise RecipeError(f"tune.base: {low_rank.base} is for one rank without offload so far; use base: unchanged")
    way = way_to_compute(execution, model_config, training, vocab_size, device)
    with torch.device("meta"):
        model = build_model(model_config, vocab_size)
    if degree(mesh, PIPELINE) > 1 and (obstacle := stages_obstacle(model_config, training, layers, tune)):
        raise RecipeError(obstacle)
    division = pipeline.divided(model, divide, mesh, execution.parallel, device)
    depths = _learning(model, layers, low_rank)
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
        tuning.begin(model, low_rank, seed)
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
    lowest = layers.lowest(max(depths.values()))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad if low_rank else depths[name] >= lowest)
    return depths


def check_fp8(model: Network, tune: TuneConfig, parallel: ParallelConfig) -> None:
    """Raise RecipeError where products of this model, of what is tuned of it or of parts of it cannot be in fp8."""
    if parallel.tensor > 1:
        raise RecipeError(
            f"precision: fp8 is for whole matrices, and runtime.parallel.tensor: {parallel.tensor} splits them;"
            " use tensor: 1, or precision: bf16"
        )
    if parallel.pipeline > 1:
        # Scales are made ahead of a forward of the whole model, which no rank of a pipeline does.
        raise RecipeError(
            f"precision: fp8 does not go with runtime.parallel.pipeline: {parallel.pipeline}; use pipeline: 1,"
            " or precision: bf16"
        )
    if not isinstance(tune, FullTuning):
        raise RecipeError(
            f"precision: fp8 is not for tune.kind: {tune.kind}; use precision: bf16, or tune: {{kind: full}}"
        )
    if not any(tuning.linear_layers(model)):
        raise RecipeError(
            f"precision: fp8 is for the linear layers of blocks, and model.kind: {model.config.kind} has none;"
            " use precision: bf16"
        )


def stages_obstacle(
    model: NetworkConfig, training: TrainingConfig, layers: LayersConfig | None, tune: TuneConfig
) -> str | None:
    """Why a phase cannot be trained in stages, for people; None when it can."""
    what = {
        f"model.kind: {model.kind}": not isinstance(model, DecoderConfig),
        "optimizer.kind: schedule_free_adamw": isinstance(training.optimizer, ScheduleFreeConfig),
        "layers": layers is not None,
        "tune": isinstance(tune, LowRankConfig),
        "loss of preferences": isinstance(training.loss, PreferenceLossConfig),
    }
    asked = next((name for name, is_asked in what.items() if is_asked), None)
    return f"{asked} does not go with stages; use runtime.parallel.pipeline=1" if asked else None


def check_batch(context_length: int, global_batch_tokens: int, data_ranks: int) -> None:
    """Raise RecipeError unless every group of ranks with rows of its own gets the same whole number of them."""
    row_tokens = context_length * data_ranks
    if global_batch_tokens % row_tokens:
        suggestion = max(row_tokens, global_batch_tokens // row_tokens * row_tokens)
        raise RecipeError(
            f"global_batch_tokens: {global_batch_tokens} is no multiple of context_length {context_length}"
            f" x {data_ranks} ranks; use {suggestion}"
        )


def check_ranks(execution: ExecutionConfig, context_length: int, global_batch_tokens: int, ranks: int) -> None:
    """Raise RecipeError where so many ranks cannot share a step's rows, or not to the bit where that is asked for."""
    # A recipe for a user's torchrun need not say how many ranks there will be, but never are there fewer.
    layout = execution.parallel
    check_batch(context_length, global_batch_tokens, layout.data_ranks(max(ranks, layout.ranks_of_a_row)))
    if execution.exact:
        check_exact(layout, execution.micro_batch_rows, context_length, global_batch_tokens, ranks)


def check_tensor(model: NetworkConfig, ranks: int, tune: TuneConfig = FULL) -> None:
    """Raise RecipeError where so many ranks cannot share every layer of the model (tensor parallel)."""
    if ranks == 1:
        return
    if tune.kind != "full":
        raise RecipeError(f"runtime.parallel.tensor: {ranks}: tune.kind: {tune.kind} is for whole layers so far; use 1")
    if obstacle := model.tensor_obstacle(ranks):
        fitting = [str(n) for n in range(1, 2 * ranks + 1) if n == 1 or model.tensor_obstacle(n) is None]
        raise RecipeError(f"runtime.parallel.tensor: {ranks}: {obstacle}; use {' or '.join(fitting)}")


def rows_per_micro_batch(
    execution: ExecutionConfig, context_length: int, rows_of_rank: int, data_ranks: int = 1
) -> int:
    """Rows of one micro-batch: as asked for, else about 8,192 tokens; always a divisor of the rank's rows.

    In a pipeline fewer where that makes several micro-batches for each rank: while it fills and empties, ranks wait.
    """
    if execution.exact:
        return virtual_shard_rows(execution.micro_batch_rows, context_length, rows_of_rank * data_ranks)
    wanted = execution.micro_batch_rows or max(1, 8192 // context_length)
    ranks = execution.parallel.pipeline
    if ranks > 1 and not execution.micro_batch_rows:
        wanted = min(wanted, max(1, rows_of_rank // (MICRO_BATCHES_PER_RANK * ranks)))
    wanted = min(wanted, rows_of_rank)
    while rows_of_rank % wanted:
        wanted -= 1
    return wanted


def start_from_bigrams(state: TrainState, counted: Bigrams, steps: int, seed: int, training: TrainingConfig) -> None:
    """Replace embedding and output matrix by those of the best bigram model of the counted pairs (models.bigrams)."""
    model = state.model
    assert isinstance(model, Decoder), "a recipe that starts from pairs of tokens is checked to have a decoder"
    first, second, numbers = map(torch.from_numpy, (counted.first, counted.second, counted.counts))
    counts = PairCounts.of(first, second, numbers, model.vocab_size)
    size, scale = model.config.hidden_size, model.config.embedding_init_std
    embedding, head = bigram_tables(counts, size, steps, seed, dtype_of(training.precision))
    parameters = dict(model.named_parameters())
    for name, table in ((model.embedding_name, embedding * scale), (model.head_name, head)):
        if name in parameters:  # else it is another stage's
            shard.copy_full(parameters[name], table)


def start_from_pretrained(model: Labeller, weights: Mapping[str, Tensor]) -> list[str]:
    """Copy what a pretrained encoder has of the parameters of a model for a task; returns those that it has not.

    Raises ModelFileError when a shape differs.
    """
    fresh = []
    for name, parameter in model.named_parameters():
        found = weights.get(model.pretrained_name(name))
        if found is None:
            fresh.append(name)
        elif found.shape != parameter.shape:
            raise ModelFileError(f"{name}: weights have shape {list(found.shape)}, the model {list(parameter.shape)}")
        else:
            shard.copy_full(parameter, found)
    return fresh


def load_weights(model: Network, weights: Mapping[str, Tensor]) -> None:
    """Copy full tensors into the (possibly sharded) parameters. Raises ModelFileError naming what does not fit."""
    load_tensors(dict(model.named_parameters()), weights, model.elsewhere)


def load_tensors(
    parameters: Mapping[str, Tensor],
    weights: Mapping[str, Tensor | StoredTensor],
    elsewhere: Collection[str] = (),
) -> None:
    """As `load_weights`, for tensors by name; of those that lie in files only what this rank holds is read.

    Those named by `elsewhere` are for other ranks.
    """
    if isinstance(weights, ReadTensors):
        weights = weights.stored
    missing = sorted(parameters.keys() - weights.keys())
    extra = sorted(weights.keys() - parameters.keys() - set(elsewhere))
    if missing or extra:
        raise ModelFileError(f"weights do not fit the model: missing {missing[:3]}, not known {extra[:3]}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            weight = weights[name]
            if parameter.shape != weight.shape:
                raise ModelFileError(
                    f"{name}: weights have shape {list(weight.shape)}, the model {list(parameter.shape)}"
                )
            if isinstance(weight, StoredTensor):
                weight.fill(parameter)
            else:
                shard.copy_full(parameter, weight)
