"""The LSTM's training step against plain PyTorch: tokens per second, one process, the steps in turn.

    python -m benchmarks.recurrent [--rounds 5] [--threads 2]      (make bench-recurrent)

The same model three times (embedding, LSTM layers, output matrix), the same random tokens, AdamW, gradients clipped:
Groundup's step as a recipe runs it (bf16, states carried on), and PyTorch's nn.LSTM as its word language model example
trains it, in float32 and under bf16 autocast. Writes results/recurrent.json.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import guard, harness
from groundup.launcher import settle_threads
from groundup.models import LSTMConfig
from groundup.optim import AdamWConfig

CONFIG = LSTMConfig(context_length=128, num_layers=2, hidden_size=512)
ROWS, PASSES = 16, 3


class Reference(nn.Module):
    """What one would write with PyTorch's own layers."""

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(guard.VOCAB_SIZE, config.hidden_size)
        self.layers = nn.LSTM(config.hidden_size, config.hidden_size, config.num_layers, batch_first=True)
        self.head = nn.Linear(config.hidden_size, guard.VOCAB_SIZE)

    def forward(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Mean loss of the next tokens, and the states to go on with."""
        x, state = self.layers(self.embedding(tokens), state)
        loss = functional.cross_entropy(self.head(x).float().flatten(0, 1), tokens.roll(-1, 1).flatten())
        return loss, state


def reference_step(config: LSTMConfig, bf16: bool) -> Callable[[Tensor], float]:
    """AdamW, gradients clipped, states carried from window to window."""
    model = Reference(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    carried: dict[str, Any] = {"state": None}

    def step(tokens: Tensor) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss, state = model(tokens, carried["state"])
        carried["state"] = tuple(part.detach() for part in state)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def main() -> None:
    """Measure in turn and print the table."""
    parser = harness.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    way, ours = guard.groundup_step(CONFIG, "auto", ROWS, optimizer=AdamWConfig())
    steps = {
        f"groundup: {way}": ours,
        "pytorch: bf16": reference_step(CONFIG, bf16=True),
        "pytorch: float32": reference_step(CONFIG, bf16=False),
    }
    tokens = torch.randint(guard.VOCAB_SIZE, (ROWS, CONFIG.context_length), generator=torch.Generator().manual_seed(1))
    for step in steps.values():
        step(tokens)
    speeds: dict[str, list[float]] = {label: [] for label in steps}
    for _ in range(options.rounds):
        for label, step in steps.items():
            seconds = min(guard.seconds_of(step, tokens) for _ in range(PASSES))
            speeds[label].append(tokens.numel() / seconds)
    first = next(iter(speeds))
    leads = {label: harness.ratios(speeds[first], found) for label, found in speeds.items()}
    rows = [
        [label, harness.shown(harness.spread(found)), harness.shown(leads[label], ".2f")]
        for label, found in speeds.items()
    ]
    result = {
        "machine": harness.machine(options),
        "parameters": CONFIG.num_parameters(guard.VOCAB_SIZE),
        "groundup": {way: harness.spread(speeds[first])},
        "peers": harness.by_tool({label: harness.spread(speeds[label]) for label in list(speeds)[1:]}),
        "ratios": leads,
        "ratio_to_best_peer": min(lead["median"] for lead in list(leads.values())[1:] if lead),
    }
    harness.save("recurrent", result, harness.table(["row", "tokens/s", "Groundup / row"], rows))


if __name__ == "__main__":
    if "GOMP_SPINCOUNT" not in os.environ and "OMP_WAIT_POLICY" not in os.environ:
        settle_threads()  # read when libgomp is loaded, hence the new start
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.recurrent", *sys.argv[1:]])
    main()
