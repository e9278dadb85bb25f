"""What is done to a model from outside so that it fits and is fast: sharding, recomputation, compilation, simulation."""

from __future__ import annotations

from groundup.parallel.mesh import ParallelConfig, Rank, data_mesh, join, leave

__all__ = ["ParallelConfig", "Rank", "data_mesh", "join", "leave"]
