"""Guard against a slower step: Groundup's training step against a plain PyTorch loop in the same process.

    python -m benchmarks.guard [--way auto|kernels|compiled|eager] [--set]      (make bench-guard)

    step of Groundup, step of the reference, the reference, Groundup, ... --> ratio of medians --> benchmarks/guard.json

Speeds differ from machine to machine and from minute to minute; their ratio, taken in turn, much less. It fails (exit
code 1) where the ratio is more than 15% below the one that was committed for this way of computing and this processor,
twice in a row. For a processor without a committed ratio, Groundup must only not be slower than the reference by 15%.
`--set` writes the ratio of this machine into guard.json; do so on an idle machine, and after a change that is meant.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from groundup.launcher import settle_threads
from groundup.models import DecoderConfig, NetworkConfig
from groundup.tokens import Batch
from groundup.train.settings import ExecutionConfig, TrainingConfig
from groundup.train.state import build_state
from groundup.train.step import Objectives, train_step
from groundup.train.way import configure_threads, way_to_compute

REFERENCES = Path(__file__).resolve().with_name("guard.json")
MODEL = DecoderConfig(
    context_length=512,
    num_layers=5,
    hidden_size=384,
    num_heads=6,
    num_kv_heads=6,
    ffn_size=1024,
    qk_norm=False,
    tied=True,
)
VOCAB_SIZE, ROWS = 4096, 8
TOLERANCE = 0.15
PAIRS, TRY_SECONDS, TRIES = 8, 22.0, 2
WAYS: dict[str, dict[str, Any]] = {
    "auto": {},
    "kernels": {"kernels": "on"},
    "compiled": {"kernels": "off", "compile": "on"},
    "eager": {"kernels": "off", "compile": "off"},
}
Step = Callable[[Tensor], object]


class ReferenceBlock(nn.Module):
    """A Llama layer as one would write it."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        size, inner = config.hidden_size, config.ffn_size
        self.heads = config.num_heads
        self.norms = nn.ModuleList(nn.RMSNorm(size, config.norm_epsilon) for _ in range(2))
        self.query_key_value = nn.Linear(size, 3 * size, bias=False)
        self.output = nn.Linear(size, size, bias=False)
        self.gate, self.up = nn.Linear(size, inner, bias=False), nn.Linear(size, inner, bias=False)
        self.down = nn.Linear(inner, size, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """[rows, time, hidden] -> the same shape."""
        rows, time_, size = x.shape
        parts = self.query_key_value(self.norms[0](x)).view(rows, time_, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = turned(parts[0], cos, sin), turned(parts[1], cos, sin), parts[2]
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.output(mixed.transpose(1, 2).reshape(rows, time_, size))
        normed = self.norms[1](x)
        return x + self.down(functional.silu(self.gate(normed)) * self.up(normed))


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions of [rows, heads, time, head_dim]."""
    one, other = x.chunk(2, dim=-1)
    return torch.cat((one * cos - other * sin, other * cos + one * sin), dim=-1).to(x.dtype)


class Reference(nn.Module):
    """The same model, tied."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCAB_SIZE, config.hidden_size)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.blocks = nn.ModuleList(ReferenceBlock(config) for _ in range(config.num_layers))
        self.norm = nn.RMSNorm(config.hidden_size, config.norm_epsilon)
        frequencies = config.rope_theta ** (-torch.arange(0, config.head_size, 2) / config.head_size)
        angles = torch.arange(config.context_length)[:, None] * frequencies
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean loss."""
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        logits = functional.linear(self.norm(x), self.embedding.weight)
        return functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def reference_step(config: DecoderConfig) -> Step:
    """Eager, bf16 by autocast, AdamW, gradients clipped."""
    model = Reference(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step(tokens: Tensor) -> float:
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(tokens, tokens.roll(-1, 1))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def groundup_step(config: NetworkConfig, way: str, rows: int | None = None, **phase: Any) -> tuple[str, Step]:
    """The way in which this machine computes, and the step that the loop does."""
    rows = rows or ROWS
    execution = ExecutionConfig(device="cpu", **WAYS[way])
    # A short budget: where there are no kernels, `auto` is then eager, and the guard does not wait for a compiler.
    training = TrainingConfig(tokens=1, global_batch_tokens=rows * config.context_length, **phase)
    device = torch.device("cpu")
    configure_threads(execution)
    found = way_to_compute(execution, config, training, VOCAB_SIZE, device)
    state = build_state(config, VOCAB_SIZE, training, execution, 1, device=device)
    positions = torch.arange(config.context_length, dtype=torch.int32).expand(rows, -1).contiguous()
    segments, sources = torch.zeros_like(positions), torch.zeros(rows, dtype=torch.int64)
    objectives = Objectives(("text",), (0,), ("pretrain",), (1.0,))

    def step(tokens: Tensor) -> float:
        batch = Batch(tokens, tokens.roll(-1, 1), segments, positions, sources)
        return float(train_step(state, [batch], objectives, learning_rate_factor=1.0, max_grad_norm=1.0).loss)

    return found, step


def seconds_of(step: Step, tokens: Tensor) -> float:
    """Of one step, its loss read."""
    started = time.perf_counter()
    step(tokens)
    return time.perf_counter() - started


def measured_ratio(ours: Step, reference: Step, tokens: Tensor) -> dict[str, float]:
    """Both in turn, the first of a pair changing -> how many times faster ours is, and tokens per second of both."""
    found: dict[Step, list[float]] = {ours: [], reference: []}
    deadline = time.perf_counter() + TRY_SECONDS
    for pair in range(PAIRS):
        for step in (ours, reference) if pair % 2 else (reference, ours):
            found[step].append(seconds_of(step, tokens))
        if time.perf_counter() > deadline and pair >= 2:
            break
    medians = {step: statistics.median(seconds) for step, seconds in found.items()}
    return {
        "ratio": medians[reference] / medians[ours],
        "tokens_per_second": tokens.numel() / medians[ours],
        "reference_tokens_per_second": tokens.numel() / medians[reference],
    }


def processor() -> str:
    """What a committed ratio belongs to."""
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return f"{found[1] if found else 'unknown'}, {torch.get_num_threads()} threads"


def judge(way: str, ratio: float, references: dict[str, Any], name: str) -> tuple[bool, str]:
    """Whether `ratio` is good enough, and the reason in words."""
    committed = references.get(way, {}).get(name)
    wanted = (1.0 - TOLERANCE) * (committed or 1.0)
    source = f"committed {committed:.2f}" if committed else "no ratio is committed for this processor, so 1"
    return ratio >= wanted, f"{way}: {ratio:.2f} times the reference ({source}; at least {wanted:.2f} is wanted)"


def main() -> int:
    """Measure, compare, say it; 0 when the step is as fast as it was, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--way", choices=WAYS, default="auto")
    parser.add_argument("--set", action="store_true", help="commit this machine's ratio to guard.json")
    options = parser.parse_args()
    way, ours = groundup_step(MODEL, options.way)
    reference = reference_step(MODEL)
    tokens = torch.randint(VOCAB_SIZE, (ROWS, MODEL.context_length), generator=torch.Generator().manual_seed(1))
    for step in (ours, reference):
        step(tokens)
    references = json.loads(REFERENCES.read_text()) if REFERENCES.exists() else {}
    best: dict[str, float] = {"ratio": 0.0}
    for _ in range(TRIES):
        best = max(best, measured_ratio(ours, reference, tokens), key=lambda found: found["ratio"])
        good, words = judge(way, best["ratio"], references, processor())
        if good or options.set:
            break
    print(f"{words}; {best['tokens_per_second']:,.0f} and {best['reference_tokens_per_second']:,.0f} tokens/s")
    if options.set:
        references.setdefault(way, {})[processor()] = round(best["ratio"], 3)
        REFERENCES.write_text(json.dumps(references, indent=1, sort_keys=True) + "\n")
        return 0
    return 0 if good else 1


if __name__ == "__main__":
    if "GOMP_SPINCOUNT" not in os.environ and "OMP_WAIT_POLICY" not in os.environ:
        settle_threads()  # read when libgomp is loaded, hence the new start
        os.execv(sys.executable, [sys.executable, *sys.argv])
    sys.exit(main())
