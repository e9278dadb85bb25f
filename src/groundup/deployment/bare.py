"""A job -> a shell script that is started by hand on each machine, with torchrun."""

from __future__ import annotations

import shlex

from groundup.deployment.job import OFFLINE, Job

ALONE_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""Without it torchrun 2.13 hands out the address of the first store for ever, and a machine that comes back waits."""


def torchrun(job: Job) -> str:
    """The script; `bash FILE FIRST_HOST` on every machine starts it."""
    python, *words = job.command
    counts = f"{job.min_nodes}:{job.nodes}" if job.elastic else str(job.nodes)
    exports = " ".join(f"{name}={value}" for name, value in {**OFFLINE, **(ALONE_STORE if job.elastic else {})}.items())
    return f"""\
#!/bin/bash
# Written by `groundup deploy --for torchrun`. On each machine: bash THIS_FILE FIRST_HOST [PORT]
# torchrun starts ranks again after any error, also those that another start cannot mend, and ends with 1 whatever the
# error was; `groundup ... runtime.rendezvous=FIRST_HOST:PORT` on each machine does neither.
set -eu
if [ "$#" -lt 1 ]; then
  echo "usage: bash $0 FIRST_HOST [PORT]" >&2
  exit 2
fi

export {exports} PYTHONUNBUFFERED=1
cd {shlex.quote(job.folder)}
exec {shlex.quote(python)} -m torch.distributed.run --nnodes={counts} --nproc-per-node={job.devices} \\
  --max-restarts={job.restarts} --rdzv-backend=c10d --rdzv-endpoint="$1:${{2:-29500}}" --rdzv-id={job.label} \\
  --signals-to-handle=SIGTERM,SIGINT,SIGUSR1 \\
  {shlex.join(words)}
"""
