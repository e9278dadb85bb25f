"""What is done to a model from outside, to fit and to be fast: sharding, recomputation, compilation, simulation."""

from __future__ import annotations

from groundup.parallel.mesh import ParallelConfig, Rank, alone, check_layout, data_mesh, join, leave
from groundup.parallel.ranks import Ranks, contact

__all__ = ["ParallelConfig", "Rank", "Ranks", "alone", "check_layout", "contact", "data_mesh", "join", "leave"]
