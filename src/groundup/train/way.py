"""Where and how a model is computed: device, threads, and by our kernels, torch.compile or operator by operator.

Invariant: what is chosen depends on recipe and machine only, so a resumed run chooses the same.
"""

from __future__ import annotations

import os
import shutil
from typing import Literal

import torch

from groundup.errors import ResourceError
from groundup.kernels import ops
from groundup.log import logger
from groundup.models import (
    DecoderConfig,
    EncoderConfig,
    NetworkConfig,
)
from groundup.parallel import ParallelConfig
from groundup.parallel.host import keep_freed_memory
from groundup.train.settings import ExecutionConfig, TrainingConfig

Way = Literal["kernels", "compiled", "eager"]
"""How the blocks of a model are computed: by our own kernels, by torch.compile, or operator by operator."""


COMPILE_WORTH_FLOPS = 1.5e13
"""Below this much work for a phase, `compile: auto` stays eager: compiling would take longer than it saves."""


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
