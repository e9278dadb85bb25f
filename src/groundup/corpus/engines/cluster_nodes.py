"""The nodes of a Ray cluster: each must have this Groundup, and see the files of the others.

driver's file --a question to each node--> its versions, and a file of its own --seen here--> the cluster can be used
"""

from __future__ import annotations

import hashlib
import os
import platform
import time
import uuid
from importlib import metadata
from pathlib import Path
from typing import Any

from groundup.corpus.optional import load
from groundup.errors import ResourceError
from groundup.log import logger

_NODE_SECONDS = 60
_SIGHT_SECONDS = 5
_LIBRARIES = ("numpy", "pyarrow", "rensa", "tokenizers", "zstandard")


def check_nodes(ray: Any, shared: Path) -> None:
    """Raise ResourceError unless every node has this Groundup and sees files here, as this process sees theirs."""
    token, here = uuid.uuid4().hex, _versions()
    mine = shared / f"seen-{token}"
    mine.write_text(token)
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    look = ray.remote(num_cpus=0, max_retries=0)(_look)
    try:
        asked = [
            look.options(scheduling_strategy=_on(node["NodeID"])).remote(os.getcwd(), shared, token, node["NodeID"])
            for node in nodes
        ]
        for node, reference in zip(nodes, asked):
            try:
                versions, problem = ray.get(reference, timeout=_NODE_SECONDS)
            except ray.exceptions.RayError as error:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
                versions, problem = here, f"cannot run Groundup: {reason[:60]}"
            other = [f"{name} {version}" for name, version in versions.items() if version != here[name]]
            if other and not problem:
                problem = f"has {other[0]}, not {here[other[0].rpartition(' ')[0]]}"
            if not problem and not _appears(_answer(shared, token, node["NodeID"])):
                problem = f"its files in {shared} are not seen here"
            if problem:
                raise ResourceError(
                    f"Ray node {node['NodeManagerHostname']}: {problem}; all nodes need the same Groundup and "
                    "runtime.workdir on a shared file system",
                    details=[f"shared folder: {shared.absolute()}"],
                )
    finally:
        for path in (mine, *(_answer(shared, token, node["NodeID"]) for node in nodes)):
            path.unlink(missing_ok=True)
    logger.info(f"Ray: {len(nodes)} nodes, {int(ray.cluster_resources().get('CPU', 0))} processors")


def _on(node: str) -> Any:
    """Where a question to one node is answered."""
    return load("ray.util.scheduling_strategies", "runtime.data_engine: ray", "ray").NodeAffinitySchedulingStrategy(
        node, soft=False
    )


def _versions() -> dict[str, str]:
    """What must be the same on all nodes, for the bytes to be."""
    code = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        code.update(path.read_bytes())
    libraries = {name: metadata.version(name) for name in _LIBRARIES}
    return {"Python": platform.python_version(), **libraries, "Groundup's code": code.hexdigest()[:12]}


def _answer(shared: Path, token: str, node: str) -> Path:
    return shared / f"seen-{token}-{node}"


def _appears(path: Path) -> bool:
    """Whether a file is there, or soon will be: network file systems may be late."""
    deadline = time.monotonic() + _SIGHT_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _look(folder: str, shared: Path, token: str, node: str) -> tuple[dict[str, str], str]:
    """On a node: (its versions, what is wrong with the shared folder), leaving a file there."""
    try:
        os.chdir(folder)
        seen = shared / f"seen-{token}"
        if not _appears(seen) or seen.read_text() != token:
            return _versions(), f"does not see files of {shared}"
        _answer(shared, token, node).write_text(token)
    except OSError as error:
        return _versions(), f"{error.strerror}: {error.filename}"
    return _versions(), ""
