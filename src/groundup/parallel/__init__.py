"""What is done to a model from outside, to fit and to be fast: sharding, recomputation, compilation, simulation."""

from __future__ import annotations

from groundup.parallel.mesh import ParallelConfig, Rank, data_mesh, join, leave

__all__ = ["ParallelConfig", "Rank", "data_mesh", "join", "leave"]
