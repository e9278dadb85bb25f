"""What cannot be trained with rows split over ranks (`runtime.parallel.context`), refused when the recipe is read."""

from __future__ import annotations

from groundup.models import NetworkConfig


def check_split_rows(ranks: int, model: NetworkConfig, *, judges: bool) -> None:
    """Raise ValueError where `ranks` cannot share the rows of this model; `judges`: there is a phase of preferences."""
    if ranks == 1:
        return
    where = f"runtime.parallel.context: {ranks}"
    obstacle = model.context_obstacle()
    if obstacle is not None:
        raise ValueError(f"{where}: {obstacle}; use context: 1")
    if model.context_length % (2 * ranks):
        nearest = max(1, round(model.context_length / (2 * ranks))) * 2 * ranks
        raise ValueError(
            f"{where} cuts rows into {2 * ranks} chunks, and model.context_length {model.context_length} is no multiple"
            f" of that; use {nearest}"
        )
    if judges:
        raise ValueError(f"{where}: preferences judge rows as wholes; use context: 1, or leave out the section")
