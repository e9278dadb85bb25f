"""Whether a number of ranks can train a phase in the layout that the runtime asks for; said before any work is done.

Invariant: nothing is built here; what cannot be is refused by the name of its field, with what can.
"""

from __future__ import annotations

from groundup.errors import RecipeError
from groundup.models import DecoderConfig, NetworkConfig, TuneConfig
from groundup.optim import LayersConfig
from groundup.parallel.pipeline import check_micro_batches, spread
from groundup.train.state import (
    FULL,
    ExecutionConfig,
    TrainingConfig,
    check_ranks,
    check_tensor,
    rows_per_micro_batch,
    stages_obstacle,
)


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
    check_tensor(model, layout.tensor, tune)
    if layout.pipeline == 1:
        return
    if layout.context > 1:
        raise RecipeError("runtime.parallel.pipeline: does not go with context yet; use 1 for one of them")
    if obstacle := stages_obstacle(model, training, layers, tune):
        raise RecipeError(obstacle)
    assert isinstance(model, DecoderConfig), "as stages_obstacle found"
    spread(model.num_layers, layout.stages)
    data_ranks = layout.data_ranks(max(ranks, layout.ranks_of_a_row))
    rows = training.global_batch_tokens // model.context_length // data_ranks
    check_micro_batches(layout, rows // rows_per_micro_batch(execution, model.context_length, rows))
