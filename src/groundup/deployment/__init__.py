"""A recipe's `runtime:` -> the file with which a cluster starts it: SLURM, Kubernetes, Ray, or bare machines."""

from __future__ import annotations

from groundup.deployment.job import Cluster, Job, job_of
from groundup.deployment.render import TARGETS, render

__all__ = ["TARGETS", "Cluster", "Job", "job_of", "render"]
