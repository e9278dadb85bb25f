"""The machine's peak: the best of several large bf16 matrix products, in FLOP per second, as one JSON line.

It is what model FLOP utilisation is measured against, so it runs in every round, between the tools.
"""

from __future__ import annotations

import json
import sys
import time

import torch

SHAPES = ((4096, 1024, 1024), (8192, 384, 384), (8192, 1024, 384), (8192, 1408, 512), (4096, 2048, 512))
SECONDS_PER_SHAPE = 1.0


def best_flops(rows: int, inner: int, columns: int) -> float:
    """Best FLOP per second of one product, into an output that is there already."""
    left, right = (torch.randn(shape).bfloat16() for shape in ((rows, inner), (inner, columns)))
    out = torch.empty(rows, columns, dtype=torch.bfloat16)
    best, end = float("inf"), time.perf_counter() + SECONDS_PER_SHAPE
    while time.perf_counter() < end:
        started = time.perf_counter()
        torch.mm(left, right, out=out)
        best = min(best, time.perf_counter() - started)
    return 2 * rows * inner * columns / best


def main() -> None:
    """Print the best of all shapes."""
    torch.set_num_threads(json.loads(sys.argv[1])["threads"])
    found = {"x".join(map(str, shape)): best_flops(*shape) for shape in SHAPES}
    print(json.dumps({"peak_flops": max(found.values()), "by_shape": found}))


if __name__ == "__main__":
    main()
