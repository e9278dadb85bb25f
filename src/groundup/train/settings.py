"""What a recipe says of training: `TrainingConfig` is identity, `ExecutionConfig` (of `runtime:`) place and speed.

Invariant: nothing of `ExecutionConfig` changes a result beyond rounding.
"""

from __future__ import annotations

import re
from typing import Literal

import torch
from pydantic import Field, field_validator, model_validator

from groundup.config import Config
from groundup.errors import RecipeError
from groundup.models import (
    FullTuning,
    LossConfig,
)
from groundup.optim import (
    MuonConfig,
    OptimizerConfig,
    PlateauConfig,
    ScheduleConfig,
    WSDConfig,
)
from groundup.parallel import ParallelConfig, check_layout
from groundup.parallel.recompute import Recompute
from groundup.train.average import AverageConfig
from groundup.train.spikes import SpikesConfig
from groundup.train.stopping import EarlyStoppingConfig, ValidationConfig

Precision = Literal["bf16", "fp32", "fp8"]
"""Number formats of a phase; fp8 is that of the products of hidden matrices, with bf16 around them."""


_HOST = re.compile(r"[A-Za-z0-9_.-]+")
FULL = FullTuning()
"""The usual way to tune: every weight learns."""


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
    rendezvous: str = ""
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
    """A step that takes longer hangs: stacks are written, the process ends; so does a comparison of the ranks' copies.
    0: 20 times the longest seen, 600 or more."""
    checkpoint_timeout_seconds: float = Field(default=0.0, ge=0)
    """As for a step: the copy for a checkpoint, and the wait for the one before; a way back to one."""
    validation_timeout_seconds: float = Field(default=0.0, ge=0)
    """As for a step: a validation."""
    check_ranks_every_steps: int = Field(default=100, ge=0)
    """Steps between comparisons of what several ranks hold copies of, to the bit, also ahead of each validation and
    checkpoint (0: never)."""
    max_failed_attempts: int = Field(default=5, ge=0)
    """Attempts in a row that may end at the same step without a reason, before one is refused (0: any number)."""
    test_faults: bool = False
    """Let the environment's FAULT make faults on purpose, for tests."""

    @field_validator("rendezvous")
    @classmethod
    def _leads_somewhere(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if value and not (_HOST.fullmatch(host) and port.isdecimal() and 0 < int(port) < 2**16):
            raise ValueError("give HOST:PORT, a name or IPv4 address of one of the machines and a port of 1 to 65535")
        return value

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
        if self.kernels == "on" and self.parallel.tensor > 1:
            raise ValueError(
                f"kernels: on is for whole layers, and parallel.tensor is {self.parallel.tensor}; use auto"
            )
        if self.exact and self.parallel.offload:
            raise ValueError("exact: true keeps parameters where it computes; leave parallel.offload out")
        if self.parallel.context > 1 and self.compile == "on":
            raise ValueError(
                f"parallel.context: {self.parallel.context} needs compile: off or auto; ranks talk within the blocks"
            )
        return self


def dtype_of(precision: Precision) -> torch.dtype:
    """The number format of activations that a recipe's `precision` means."""
    return torch.float32 if precision == "fp32" else torch.bfloat16
