"""A model in stages on ranks behind each other: micro-batches go forward through them, gradients come back.

    1f1b          rank 0 [stage 0] --states--> rank 1 [stage 1] --> losses         <--gradients of the states--
    interleaved   rank 0 [stage 0] --> rank 1 [stage 1] --> rank 0 [stage 2] --> rank 1 [stage 3] --> losses

torch.distributed.pipelining keeps the order of the work. Every rank of a line makes the same rows itself, so that only
states go from rank to rank, and what a block reads beside them (segments, positions, keys) is there already.
Invariant: all ranks of a line end with the same loss sums, and read the same logits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule

from groundup.errors import RecipeError
from groundup.parallel.mesh import PIPELINE, ParallelConfig, part
from groundup.parallel.passes import KeyedRows, Pass, Passes, one_after_another
from groundup.parallel.shard import Shardable, give_back, local_tensor


class Stage(Protocol):
    """What a stage says of itself, beside being a module: shapes without content, of `rows` rows of `time` tokens."""

    def example_input(self, rows: int, time: int) -> Tensor:
        """What it takes."""

    def example_output(self, rows: int, time: int) -> Tensor | tuple[Tensor, ...]:
        """What it gives."""


class Divided(Shardable, Protocol):
    """A model of which this rank has some stages."""

    vocab_size: int
    shared: frozenset[str]


Divide = Callable[[Any, Sequence[range]], Sequence[nn.Module]]
"""(model, ranges of blocks) -> a stage for each range; the model keeps only what belongs to them."""


@dataclass(frozen=True)
class Division:
    """How a model is run."""

    roots: Sequence[nn.Module]
    """What is called as a whole, the model itself or this rank's stages: FSDP makes each of them a root."""
    scored_by: Sequence[nn.Module]
    """Those that give losses; none where other ranks have them."""
    passes: Passes


def divided(
    model: Divided, divide: Divide, mesh: DeviceMesh | None, config: ParallelConfig, device: torch.device
) -> Division:
    """Cut a model on "meta" down to this rank's stages, where the mesh has a line of them; else it stays whole.

    Raises RecipeError when there are fewer blocks than stages, or the model cannot be divided.
    """
    assert isinstance(model, nn.Module), "a model is a torch module"
    line = part(mesh, PIPELINE)
    if line is None:
        return Division([model], [model], one_after_another)
    pipeline = Pipeline(model, divide, line, config, device)
    return Division(pipeline.stages, pipeline.stages[-1:] if pipeline.is_last else [], pipeline.run)


def spread(num_blocks: int, num_stages: int) -> list[range]:
    """The blocks of each stage: consecutive, as many as the others or one more. Raises RecipeError for too few."""
    if num_blocks < num_stages:
        raise RecipeError(
            f"runtime.parallel.pipeline: {num_stages} stages, but the model has {num_blocks} blocks; each stage needs"
            f" one, so use {num_blocks} stages or fewer"
        )
    size, more = divmod(num_blocks, num_stages)
    # The last stage also has the head, so those before it get what is left over.
    ends = [number * size + min(number, more) for number in range(num_stages + 1)]
    return [range(*ends[number : number + 2]) for number in range(num_stages)]


def check_micro_batches(config: ParallelConfig, count: int) -> None:
    """Raise RecipeError where a rank's rows make too few micro-batches to keep all stages at work."""
    if config.pipeline == 1:
        return
    say = f"runtime.micro_batch_rows: makes {count} micro-batches a step"
    if count < config.pipeline:
        raise RecipeError(
            f"{say}, and pipeline: {config.pipeline} needs at least as many; use fewer rows, or a larger"
            " global_batch_tokens"
        )
    if config.schedule == "interleaved" and count % (count // config.pipeline):
        raise RecipeError(f"{say}; schedule: interleaved needs a multiple of pipeline: {config.pipeline}, or 1f1b")


class Pipeline:
    """This rank's stages of a line, and the order of their work."""

    def __init__(
        self, model: Any, divide: Divide, line: DeviceMesh, config: ParallelConfig, device: torch.device
    ) -> None:
        self.config, self.device, self.group = config, device, line.get_group()
        self.place, self.size = line.get_local_rank(), line.size()
        blocks = spread(len(model.blocks()), config.stages)
        self.numbers = range(self.place, config.stages, self.size)
        self.stages = list(divide(model, [blocks[number] for number in self.numbers]))
        self.vocab_size = model.vocab_size
        self._schedules: dict[tuple[int, int, int], Any] = {}
        # Of an error in it a schedule logs all its actions; the error itself is raised.
        logging.getLogger("torch.distributed.pipelining").setLevel(logging.CRITICAL)
        model.forward = self.read  # its own would need all blocks

    @property
    def is_last(self) -> bool:
        """Whether this rank has the stage with the losses."""
        return self.place == self.size - 1

    def run(self, model: nn.Module, passes: Sequence[Pass]) -> list[Tensor]:
        """See `passes.Passes`. All micro-batches must have one shape; every rank of the line must call it.

        Raises RecipeError for fewer micro-batches than the schedule needs.
        """
        tokens = torch.cat([each.inputs["tokens"] for each in passes])
        named = {"positions": torch.cat([each.inputs["positions"] for each in passes])}
        named["segments"] = torch.cat([_whole_segments(each.inputs["segments"], each.context) for each in passes])
        named["keys"] = torch.cat([_keys(each.context) for each in passes])
        named["targets"] = torch.cat([each.targets for each in passes])
        weights = torch.cat([each.weights for each in passes])
        schedule = self._schedule(len(passes), *passes[0].targets.shape)
        first = [tokens] if self.place == 0 else []
        with _errors_as_they_were():
            found = schedule.step(*first, target=weights, **named, row_weights=weights)
        self._add_up_shared(model)
        sums = found[0].detach() if self.is_last else torch.empty_like(weights)
        dist.broadcast(sums, group=self.group, group_src=self.size - 1)
        return list(sums.split([len(each.targets) for each in passes]))

    def _schedule(self, count: int, rows: int, time: int) -> Any:
        """The order of work for so many micro-batches of this shape."""
        key = (count, rows, time)
        if key not in self._schedules:
            self._schedules[key] = self._new_schedule(*key)
        return self._schedules[key]

    def _new_schedule(self, count: int, rows: int, time: int) -> Any:
        from torch.distributed import pipelining  # here, because it takes a second and few runs have stages

        check_micro_batches(self.config, count)
        made: list[Any] = []
        for number, stage in zip(self.numbers, self.stages):
            if isinstance(stage, FSDPModule):
                # Weights stay gathered while micro-batches pass; torch's stages let go of them at the end of a step.
                stage.set_reshard_after_forward(False)
            shapes: Any = stage
            made.append(
                pipelining.PipelineStage(
                    stage,
                    number,
                    self.config.stages,
                    self.device,
                    input_args=shapes.example_input(rows, time),
                    output_args=shapes.example_output(rows, time),
                    group=self.group,
                )
            )
        about: dict[str, Any] = {"n_microbatches": count, "loss_fn": _weighed, "scale_grads": False}
        if self.config.schedule == "interleaved":
            return pipelining.ScheduleInterleaved1F1B(made, **about)
        kind = pipelining.Schedule1F1B if self.config.schedule == "1f1b" else pipelining.ScheduleGPipe
        return kind(made[0], **about)

    def _add_up_shared(self, model: Any) -> None:
        """Sum up the gradients of what both ends of the line have, to the same bits at both, so that it stays equal."""
        other = {0: self.size - 1, self.size - 1: 0}.get(self.place)
        for name in sorted(model.shared):
            parameter = model.get_parameter(name)
            if not parameter.requires_grad:
                continue
            own = local_tensor(parameter.grad)
            theirs = torch.empty_like(own)
            exchange = [
                dist.P2POp(dist.isend, own, group=self.group, group_peer=other),
                dist.P2POp(dist.irecv, theirs, group=self.group, group_peer=other),
            ]
            for work in dist.batch_isend_irecv(exchange):
                work.wait()
            own.add_(theirs)

    def read(self, tokens: Tensor, segments: Tensor, positions: Tensor, context: KeyedRows | None = None) -> Tensor:
        """Logits [rows, time, vocab], on every rank of the line: one stage after the other, without gradients.

        In place of the model's own forward. Every rank of the line must call it, with the same rows.
        """
        x, keys, segments = tokens, None if context is None else context.keys, _whole_segments(segments, context)
        for number in range(self.config.stages):
            if number % self.size != self.place:
                continue
            stage: Any = self.stages[number // self.size]
            if number:
                x = torch.empty_like(stage.example_input(*tokens.shape), device=self.device, requires_grad=False)
                dist.recv(x, group=self.group, group_src=(number - 1) % self.size)
            x = stage(x, segments, positions, keys)
            if number + 1 < self.config.stages:
                dist.send(x, group=self.group, group_dst=(number + 1) % self.size)
        if not self.is_last:
            x = torch.empty(*tokens.shape, self.vocab_size, device=self.device)
        dist.broadcast(x, group=self.group, group_src=self.size - 1)
        for stage in self.stages:
            give_back(stage)
        return x


def _keys(context: KeyedRows) -> Tensor:
    assert context.keys is not None, "rows of a step have keys"
    return context.keys


def _whole_segments(segments: Tensor, context: KeyedRows | None) -> Tensor:
    """The segments of whole rows; `segments`: of those positions that this rank has."""
    part = None if context is None else context.part
    return segments if part is None or part.segments is None else part.segments


def _weighed(found: tuple[Tensor, Tensor], weights: Tensor) -> Tensor:
    """What a micro-batch adds to the loss."""
    return (found[0] * weights).sum()


@contextmanager
def _errors_as_they_were() -> Iterator[None]:
    """Torch wraps what a stage raises in an error of its own, behind which nobody would know it."""
    try:
        yield
    except RuntimeError as error:
        cause = error.__cause__
        if isinstance(cause, Exception):
            raise cause from None
        raise
