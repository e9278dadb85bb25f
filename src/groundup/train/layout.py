"""Whether a number of ranks can train a phase in the layout that the runtime asks for; said before any work is done.

Invariant: nothing is built here; what cannot be is refused by the name of its field, with what can.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from groundup.errors import RecipeError
from groundup.models import (
    DecoderConfig,
    FullTuning,
    LowRankConfig,
    Network,
    NetworkConfig,
    PreferenceLossConfig,
    TuneConfig,
    build_model,
    tuning,
)
from groundup.optim import (
    LayersConfig,
    ScheduleFreeConfig,
)
from groundup.parallel import ParallelConfig
from groundup.parallel.pipeline import check_micro_batches, spread
from groundup.train.settings import FULL, ExecutionConfig, TrainingConfig
from groundup.train.virtual_shards import check_exact, virtual_shard_rows

MICRO_BATCHES_PER_RANK = 4
"""Micro-batches of a step for each rank of a pipeline, where rows allow it: less than a fifth of the time is lost."""


def check_phase(
    model: NetworkConfig,
    training: TrainingConfig,
    execution: ExecutionConfig,
    ranks: int,
    layers: LayersConfig | None = None,
    tune: TuneConfig = FULL,
) -> None:
    """Raise RecipeError unless `ranks` can train a phase by this layout."""
    layout = execution.parallel
    check_ranks(execution, model.context_length, training.global_batch_tokens, ranks)
    check_tensor(model, layout.tensor)
    check_whole(training, execution, ranks, tune)
    if layout.pipeline == 1:
        return
    if obstacle := stages_obstacle(model, training, layers):
        raise RecipeError(obstacle)
    assert isinstance(model, DecoderConfig), "as stages_obstacle found"
    stages = spread(model.num_layers, layout.stages)
    if isinstance(tune, LowRankConfig):
        _check_adapters(model, tune, stages)
    data_ranks = layout.data_ranks(max(ranks, layout.ranks_of_a_row))
    rows = training.global_batch_tokens // model.context_length // data_ranks
    check_micro_batches(layout, rows // rows_per_micro_batch(execution, model.context_length, rows))


def check_whole(training: TrainingConfig, execution: ExecutionConfig, ranks: int, tune: TuneConfig) -> None:
    """Raise RecipeError where ranks would hold parts of what the optimizer or adapters must have whole."""
    check_base(tune, is_alone=ranks == 1)
    layout = execution.parallel
    a_stage_each = layout.ranks_of_a_row == layout.pipeline == ranks
    if ranks > 1 and training.optimizer.needs_whole_parameters and not execution.exact and not a_stage_each:
        kind = getattr(training.optimizer, "kind", "")
        raise RecipeError(f"optimizer.kind: {kind} is for one rank, and here are {ranks}; use adamw or adafactor")


def check_base(tune: TuneConfig, *, is_alone: bool) -> None:
    """Raise RecipeError where other ranks, or a CPU for a GPU's weights, have to do with a base in few bits."""
    if isinstance(tune, LowRankConfig) and tune.base != "unchanged" and not is_alone:
        raise RecipeError(f"tune.base: {tune.base} is for one rank without offload so far; use base: unchanged")


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


def _check_adapters(model: NetworkConfig, tune: LowRankConfig, stages: Sequence[range]) -> None:
    """Raise RecipeError where a stage would have nothing to learn, and so no gradient to make."""
    with torch.device("meta"):
        built = build_model(model, vocab_size=1)
        tuning.attach(built, tune)
    learns = [any(parameter.requires_grad for parameter in block.parameters()) for block in built.blocks()]
    for number, stage in enumerate(stages):
        if not any(learns[block] for block in stage):
            raise RecipeError(
                f"tune.targets: no adapter in blocks {stage.start} to {stage.stop - 1}, stage {number} of"
                " runtime.parallel.pipeline; each stage needs one, so name layers of all blocks, or use pipeline=1"
            )


def stages_obstacle(model: NetworkConfig, training: TrainingConfig, layers: LayersConfig | None) -> str | None:
    """Why a phase cannot be trained in stages, for people; None when it can."""
    what = {
        f"model.kind: {model.kind}": not isinstance(model, DecoderConfig),
        "optimizer.kind: schedule_free_adamw": isinstance(training.optimizer, ScheduleFreeConfig),
        "layers": layers is not None,
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


def check_tensor(model: NetworkConfig, ranks: int) -> None:
    """Raise RecipeError where so many ranks cannot share every layer of the model (tensor parallel)."""
    if ranks == 1:
        return
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
