"""One setting of a benchmark of ranks, in this process or in as many as it asks for.

Every setting is a process of its own (`--child SETTING FILE`), so that none finds warm caches or memory of another.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch.multiprocessing

from groundup.launcher import settle_threads

Work = Callable[[int, int, int, dict[str, Any], str], None]
"""(rank, number of ranks, port at which they meet, setting, file for the figures)."""


def run_setting(work: Work, setting: dict[str, Any], path: str) -> None:
    """Do `work` as every rank of the setting."""
    settle_threads()
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    if setting["ranks"] == 1:
        work(0, 1, 0, setting, path)
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(work, (setting["ranks"], port, setting, path), nprocs=setting["ranks"])


def run_apart(module: str, setting: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of one setting, by a process of its own: `python -m MODULE --child SETTING FILE`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "figures.json")
        command = [sys.executable, "-m", module, "--child", json.dumps(setting), str(path)]
        subprocess.run(command, check=True)
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
