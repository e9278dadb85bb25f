"""A job -> an sbatch script: one task a machine, warned ahead of its end, queued again when its state was saved."""

from __future__ import annotations

import shlex

from groundup.deployment.job import GRACE_SECONDS, OFFLINE, Cluster, Job


def sbatch(job: Job, cluster: Cluster) -> str:
    """The script; `sbatch FILE` submits it."""
    nodes = f"{job.min_nodes}-{job.nodes}" if job.elastic else str(job.nodes)
    options = {
        "job-name": job.label,
        "nodes": nodes,
        "ntasks-per-node": "1",
        **({"gpus-per-node": str(job.devices)} if job.gpu else {}),
        **({"cpus-per-task": str(job.cpus)} if job.cpus else {"exclusive": "", "mem": "0"}),
        "time": cluster.time,
        **({"partition": cluster.partition} if cluster.partition else {}),
        **({"account": cluster.account} if cluster.account else {}),
        "signal": f"B:USR1@{GRACE_SECONDS}",
        "requeue": "",
        "open-mode": "append",
        "output": f"{job.label}-%j.log",
        "chdir": shlex.quote(job.folder),
        **({"no-kill": ""} if job.elastic else {}),
    }
    lines = [f"#SBATCH --{name}={value}" if value else f"#SBATCH --{name}" for name, value in options.items()]
    meeting = ' runtime.rendezvous="$first:$port"' if job.nodes > 1 else ""
    gone = " --no-kill" if job.elastic else ""
    # srun gives a task one core unless it is told, whatever the job has.
    cores = str(job.cpus) if job.cpus else '"$SLURM_CPUS_ON_NODE"'
    exports = " ".join(f"{name}={value}" for name, value in OFFLINE.items())
    return f"""\
#!/bin/bash
# Written by `groundup deploy --for slurm`. Submit with: sbatch THIS_FILE
# Recipe, data, environment and runtime.workdir must lie where every machine sees them.
{chr(10).join(lines)}

export {exports} PYTHONUNBUFFERED=1
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))

# The signal ahead of the end comes to this shell alone; srun passes it on, the run saves its state and ends with 75.
asked=1 cancelled=0
trap 'asked=1; kill -USR1 "$!"' USR1
trap 'asked=1; cancelled=1; kill -TERM "$!"' TERM
srun --ntasks-per-node=1 --cpus-per-task={cores} --kill-on-bad-exit=0{gone} \\
  {shlex.join(job.command)}{meeting} &
step=$!
while [ "$asked" -eq 1 ]; do
  asked=0
  wait "$step"
  code=$?
done
# Who cancels a job does not want it back, and one that was preempted SLURM queues again by itself.
if [ "$code" -eq 75 ] && [ "$cancelled" -eq 0 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""
