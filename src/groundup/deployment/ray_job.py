"""A job -> a Python script for `ray job submit`: a task a machine runs the command there, all meet at the first.

Ray only finds the machines and holds their devices. Its own trainer is not used: it would start the process group and
the ranks itself, so a restart would be another one than everywhere else.
"""

from __future__ import annotations

from groundup.deployment.job import OFFLINE, Job


def script(job: Job) -> str:
    """The script."""
    bundle = {"CPU": max(job.cpus, 1), **({"GPU": job.devices} if job.gpu else {})}
    return f'''\
"""Written by `groundup deploy --for ray`. Submit with: ray job submit --address http://HEAD:8265 -- python THIS_FILE

Recipe, data, environment and runtime.workdir must lie where every machine sees them.
"""

import os
import socket
import subprocess
import sys

import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

NODES = {job.nodes}
BUNDLE = {bundle!r}
FOLDER = {job.folder!r}
COMMAND = {list(job.command)!r}
VARIABLES = {OFFLINE!r}


def endpoint():
    """An address of this machine at which the others reach it, with a port that is free."""
    with socket.socket() as free:
        free.bind(("", 0))
        return f"{{ray.util.get_node_ip_address()}}:{{free.getsockname()[1]}}"


def run(meeting):
    """The command on this machine; returns its exit code."""
    words = [f"runtime.rendezvous={{meeting}}"] if NODES > 1 else []
    return subprocess.run([*COMMAND, *words], cwd=FOLDER, env={{**os.environ, **VARIABLES}}).returncode


def main():
    ray.init()
    group = placement_group([BUNDLE] * NODES, strategy="STRICT_SPREAD")
    ray.get(group.ready())

    def on(machine, function, **resources):
        place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=machine)
        return ray.remote(function).options(max_retries=0, scheduling_strategy=place, **resources)

    meeting = ray.get(on(0, endpoint, num_cpus=0).remote())
    needs = {{"num_cpus": BUNDLE["CPU"], "num_gpus": BUNDLE.get("GPU", 0)}}
    codes = ray.get([on(machine, run, **needs).remote(meeting) for machine in range(NODES)])
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
'''
