"""What a step costs: seconds, memory, and the share of the machine's peak it reaches (MFU).

Invariant: nothing here touches the result of a step; times come from the monotonic clock.
"""

from __future__ import annotations

import functools
import resource
import time

import torch

_GEMM_SIZES = (4096, 512, 2048)


@functools.cache
def measured_peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Matrix-product speed of this machine in FLOP per second: the best of a few short products (about 0.2 s), once."""
    rows, inner, columns = _GEMM_SIZES
    left = torch.ones(rows, inner, device=device, dtype=dtype)
    right = torch.ones(inner, columns, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(8):
        started = time.perf_counter()
        torch.mm(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return 2.0 * rows * inner * columns / best


def peak_memory_bytes(device: torch.device) -> int:
    """Highest memory use of this process so far: allocator peak on a GPU, resident set on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Stopwatch:
    """Seconds of a phase over all its attempts, and of the last step."""

    def __init__(self, earlier_seconds: float) -> None:
        self.earlier_seconds = earlier_seconds
        self._started = self._lap = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds of the phase so far, attempts that were killed included up to their last checkpoint."""
        return self.earlier_seconds + time.monotonic() - self._started

    def lap(self) -> float:
        """Seconds since the last `lap` or `restart_lap`."""
        now = time.monotonic()
        elapsed, self._lap = now - self._lap, now
        return max(elapsed, 1e-9)

    def restart_lap(self) -> None:
        """Forget the time since the last lap (it went to validation or a checkpoint)."""
        self._lap = time.monotonic()
