"""Data loading at a thousand million tokens: seconds to open the shards, milliseconds to make a batch, early and late.

    python -m benchmarks.loader [--tokens 1000000000] [--repeats 9] [--folder DISK]      (make bench-loader)

    write shards of random tokens --> drop them from the page cache --> open to first batch --> batches, cold and warm

Two sources over the same shards, 8,192 tokens a step in rows of 512. Cold batches come from the disk, warm ones from
memory. `share_of_step` is a late batch with the hash that the loop logs, against a step at 4,000 tokens a second (a 10M
model on two cores). Shards of 2 bytes a token are written for it and removed. Writes benchmarks/results/loader.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from groundup.tokens import Mixture, MixtureSource, PackedText
from groundup.tokens.shards import DOCUMENTS_FILE, INDEX_FILE, SHARD_TOKENS

HERE = Path(__file__).resolve().parent
CONTEXT_LENGTH, STEP_TOKENS, VOCAB_SIZE, END_OF_TEXT_ID = 512, 8192, 4096, 1
DOCUMENT_TOKENS = 1000
COMPARED_TOKENS_PER_SECOND = 4000
LATE_STEP = 10**6


def write(folder: Path, num_tokens: int) -> None:
    """Shards in the layout of `tokens/shards.py`, each with the same random content."""
    content = np.random.default_rng(1).integers(2, VOCAB_SIZE, SHARD_TOKENS, dtype=np.uint16)
    content[::DOCUMENT_TOKENS] = END_OF_TEXT_ID
    starts = range(0, num_tokens, SHARD_TOKENS)
    for number, start in enumerate(starts):
        content[: num_tokens - start].tofile(folder / f"tokens-{number:05d}.bin")
    num_documents = num_tokens // DOCUMENT_TOKENS
    documents = np.full((num_documents, 2), 4 * DOCUMENT_TOKENS, dtype="<i8")
    documents[:, 0] = np.arange(num_documents) * DOCUMENT_TOKENS
    documents.tofile(folder / DOCUMENTS_FILE)
    index = {
        "documents": num_documents,
        "tokens": num_tokens,
        "text_bytes": 4 * num_tokens,
        "shards": len(starts),
        "shard_tokens": SHARD_TOKENS,
        "dtype": "<u2",
        "vocab_size": VOCAB_SIZE,
        "end_of_text_id": END_OF_TEXT_ID,
    }
    (folder / INDEX_FILE).write_text(json.dumps(index))


def forget(folder: Path) -> None:
    """Drop the shards from the page cache, so that what is read next comes from the disk."""
    os.sync()
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def opened(folder: Path) -> Mixture:
    """What a training phase opens: two sources and their mixture."""
    rows = [PackedText(folder, name, CONTEXT_LENGTH, VOCAB_SIZE) for name in ("text", "talk")]
    return Mixture([MixtureSource(rows[0], 0.7), MixtureSource(rows[1], 0.3)], STEP_TOKENS // CONTEXT_LENGTH, seed=1)


def open_to_first_batch(folder: Path) -> None:
    """From a path to a batch."""
    mixture = opened(folder)
    mixture.batch(0, 0, mixture.rows_per_step)


def batch(mixture: Mixture, step: int) -> None:
    """What the loop asks for at one step."""
    mixture.batch(step, 0, mixture.rows_per_step)
    mixture.sample_ids_hash(step)


def milliseconds(actions: Iterable[Callable[[], None]], before: Callable[[], None] = lambda: None) -> dict[str, float]:
    """Median, fastest and slowest of the actions; `before` is run before each and not counted."""
    found = []
    for action in actions:
        before()
        started = time.perf_counter()
        action()
        found.append(1e3 * (time.perf_counter() - started))
    return {"median": statistics.median(found), "fastest": min(found), "slowest": max(found)}


def measure(folder: Path, repeats: int) -> dict[str, Any]:
    """All figures, in milliseconds. The second time a range of steps is asked for, its rows are in memory."""
    steps = 32 * repeats
    results: dict[str, Any] = {
        "open_to_first_batch_cold": milliseconds(
            [lambda: open_to_first_batch(folder)] * repeats, lambda: forget(folder)
        ),
        "open_to_first_batch_warm": milliseconds([lambda: open_to_first_batch(folder)] * repeats),
    }
    for name, first in (("step_0", 0), ("step_1000000", LATE_STEP)):
        forget(folder)
        for temperature in ("cold", "warm"):
            mixture = opened(folder)
            actions = [partial(batch, mixture, step) for step in range(first, first + steps)]
            results[f"batch_{name}_{temperature}"] = milliseconds(actions)
    results["late_to_early"] = results["batch_step_1000000_warm"]["median"] / results["batch_step_0_warm"]["median"]
    step_milliseconds = 1e3 * STEP_TOKENS / COMPARED_TOKENS_PER_SECOND
    for temperature in ("cold", "warm"):
        median = results[f"batch_step_1000000_{temperature}"]["median"]
        results[f"share_of_step_{temperature}"] = median / step_milliseconds
    return results


def main() -> None:
    """Write the shards, measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=10**9)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--folder", type=Path, help="where to put the shards for the while (default: the system's)")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "loader.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as made:
        write(Path(made), options.tokens)
        results = measure(Path(made), options.repeats)
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    setting = {"tokens": options.tokens, "step_tokens": STEP_TOKENS, "context_length": CONTEXT_LENGTH, "sources": 2}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"machine": machine, "setting": setting, "groundup": results}, indent=1) + "\n")
    for name, value in results.items():
        if isinstance(value, dict):
            print(f"{name:<28} {value['median']:8.2f} ms ({value['fastest']:.2f} to {value['slowest']:.2f})")
        else:
            print(f"{name:<28} {value:8.4f}")


if __name__ == "__main__":
    main()
