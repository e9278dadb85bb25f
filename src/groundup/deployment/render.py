"""Which scheduler's file is made by which function."""

from __future__ import annotations

from groundup.deployment import bare, kubernetes, ray_job, slurm
from groundup.deployment.job import Cluster, Job
from groundup.errors import RecipeError

TARGETS = ("slurm", "kubernetes", "ray", "torchrun")


def render(target: str, job: Job, cluster: Cluster) -> str:
    """The file for a scheduler. Raises RecipeError for one that is not known."""
    if target == "slurm":
        return slurm.sbatch(job, cluster)
    if target == "kubernetes":
        return kubernetes.objects(job, cluster)
    if target == "ray":
        return ray_job.script(job)
    if target == "torchrun":
        return bare.torchrun(job)
    raise RecipeError(f"--for {target[:40]!r}: known are {', '.join(TARGETS)}")
