"""A port of the loopback at which ranks that a test starts can meet."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

PORTS = range(15_000, 32_000)
"""Below those that the kernel gives to connections: one of those may be taken again before the ranks have come."""
_random = random.Random()


def free_port() -> int:
    """A port that nobody has at this moment."""
    while True:
        port = _random.choice(PORTS)
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
