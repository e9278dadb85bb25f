"""Coordinate check of `model.scaling`, and whether the best learning rate stays where it was when the model grows.

    python -m benchmarks.coordinates              how much activations change in a few steps, by width and by depth
    python -m benchmarks.coordinates --rates      loss after a short run, by width and learning rate

With scaling a change must neither grow nor shrink with the size (Yang et al. 2022, arXiv 2203.03466, appendix D.1);
without it (`standard`) it is seen to grow. Writes benchmarks/results/coordinates.json or rates.json.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import harness
from groundup.models import DecoderConfig
from groundup.models.scaling import ScalingConfig
from groundup.optim import (
    AdafactorConfig,
    AdamWConfig,
    LinearConfig,
    LionConfig,
    MuonConfig,
    Rates,
    learning_rate_factor,
)
from groundup.tokens import Batch
from groundup.train.settings import ExecutionConfig, TrainingConfig
from groundup.train.state import TrainState, build_state
from groundup.train.step import Objectives, train_step
from groundup.train.way import configure_threads

VOCAB_SIZE, TIME, HEAD_DIM = 256, 32, 16
BASE_WIDTH, BASE_LAYERS = 64, 2
OBJECTIVES = Objectives(("text",), (0,), ("pretrain",), (1.0,))
EXECUTION = ExecutionConfig(device="cpu", threads=1, compile="off", kernels="off")
RULES: dict[str, Rates] = {
    "adamw": AdamWConfig(learning_rate=2**-7),
    "lion": LionConfig(learning_rate=2**-8, weight_decay=0.1),
    "muon": MuonConfig(learning_rate=2**-6, adam_learning_rate=2**-7),
    "muon-by-rms": MuonConfig(learning_rate=2**-6, adam_learning_rate=2**-7, adjust_rate="match_rms_adamw"),
    "adafactor": AdafactorConfig(learning_rate=2**-4),
}
TEXT = Path(__file__).parents[1] / "data" / "atlas" / "text" / "austen.jsonl.gz"


def model(width: int, layers: int, scaled: bool, **switches: Any) -> DecoderConfig:
    """A decoder with heads of a fixed width, as a larger copy of the base model or by itself."""
    heads = width // HEAD_DIM
    base = ScalingConfig(
        base_hidden_size=BASE_WIDTH, base_num_layers=BASE_LAYERS, base_num_heads=BASE_WIDTH // HEAD_DIM
    )
    return DecoderConfig(
        context_length=TIME,
        num_layers=layers,
        hidden_size=width,
        num_heads=heads,
        num_kv_heads=heads // 2,
        ffn_size=2 * width,
        scaling=base if scaled else None,
        **switches,
    )


def state_of(config: DecoderConfig, rule: Rates, rows: int, steps: int, seed: int) -> TrainState:
    """A fresh state for so many steps of so many rows."""
    batch_tokens = rows * config.context_length
    training = TrainingConfig(
        tokens=steps * batch_tokens, global_batch_tokens=batch_tokens, optimizer=rule, precision="fp32"
    )
    return build_state(config, VOCAB_SIZE, training, EXECUTION, seed, device=torch.device("cpu"))


def batch_of(tokens: torch.Tensor) -> Batch:
    """Rows of ids [rows, time + 1] -> inputs and what comes next."""
    rows, time = tokens.shape[0], tokens.shape[1] - 1
    positions = torch.arange(time, dtype=torch.int32).expand(rows, time).contiguous()
    segments = torch.zeros_like(positions)
    return Batch(tokens[:, :-1], tokens[:, 1:], segments, positions, torch.zeros(rows, dtype=torch.int64))


@torch.no_grad()
def activations(state: TrainState, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    """By name: the sums that the branches of all blocks add, the residual stream behind them, the logits."""
    found: dict[str, list[torch.Tensor]] = {"attention": [], "feed-forward": [], "residual stream": []}

    def keep(name: str) -> Any:
        return lambda module, inputs, output: found[name].append(output)

    hooks = []
    for block in state.model.blocks():
        hooks += [
            block.attention.register_forward_hook(keep("attention")),
            block.ffn.register_forward_hook(keep("feed-forward")),
            block.register_forward_hook(keep("residual stream")),
        ]
    logits = state.model(tokens)
    for hook in hooks:
        hook.remove()
    branches = {name: torch.stack(found[name]).sum(0) for name in ("attention", "feed-forward")}
    return {**branches, "residual stream": found["residual stream"][-1], "logits": logits}


def changes(config: DecoderConfig, rule: Rates, steps: int = 4, seeds: Sequence[int] = (1, 2)) -> dict[str, float]:
    """Root mean square of what `steps` steps on one batch change in each of `activations`; the mean over seeds."""
    total: dict[str, float] = {}
    for seed in seeds:
        state = state_of(config, rule, rows=8, steps=steps, seed=seed)
        ids = torch.randint(0, VOCAB_SIZE, (8, TIME + 1), generator=torch.Generator().manual_seed(seed))
        batch = batch_of(ids)
        before = activations(state, batch.tokens)
        for _ in range(steps):
            train_step(state, [batch], OBJECTIVES, learning_rate_factor=1.0, max_grad_norm=1e9)
        after = activations(state, batch.tokens)
        for name, value in after.items():
            change = float((value - before[name]).square().mean().sqrt())
            total[name] = total.get(name, 0.0) + change / len(seeds)
    return total


def table(rule: Rates, widths: Sequence[int], depths: Sequence[int]) -> dict[str, dict[str, dict[str, float]]]:
    """Changes with and without scaling, by width at the base's depth and by depth at the base's width."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for scaled in (True, False):
        name = "scaled" if scaled else "standard"
        by_width = {f"width {width}": changes(model(width, BASE_LAYERS, scaled), rule) for width in widths}
        by_depth = {f"layers {depth}": changes(model(BASE_WIDTH, depth, scaled), rule) for depth in depths}
        found[name] = {**by_width, **by_depth}
    return found


def final_loss(width: int, rate: float, scaled: bool, text: torch.Tensor, steps: int, seed: int = 1) -> float:
    """Mean loss (nats a byte) of the last tenth of a short AdamW run over the bytes of a text; infinite if it fails."""
    rows, time = 8, 64
    config = model(width, BASE_LAYERS, scaled).model_copy(update={"context_length": time})
    state = state_of(config, AdamWConfig(learning_rate=rate, weight_decay=0.0), rows, steps, seed)
    schedule, draw = LinearConfig(warmup_fraction=0.1), torch.Generator().manual_seed(seed)
    losses = []
    for step in range(steps):
        starts = torch.randint(0, len(text) - time - 1, (rows,), generator=draw)
        batch = batch_of(torch.stack([text[start : start + time + 1] for start in starts.tolist()]))
        factor = learning_rate_factor(schedule, step, steps)
        result = train_step(state, [batch], OBJECTIVES, learning_rate_factor=factor, max_grad_norm=1.0)
        losses.append(float(result.loss))
    last = losses[-max(1, steps // 10) :]
    mean = sum(last) / len(last)
    return mean if math.isfinite(mean) else math.inf


def read_text(limit: int = 2_000_000) -> torch.Tensor:
    """Bytes of the novels of the quickstart."""
    with gzip.open(TEXT, "rt", encoding="utf-8") as lines:
        joined = "\n\n".join(json.loads(line)["text"] for line in lines)
    return torch.frombuffer(bytearray(joined.encode()[:limit]), dtype=torch.uint8).long()


def main() -> None:
    """Print the tables, and keep them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", default="adamw,muon", help=f"of {', '.join(RULES)}")
    parser.add_argument("--widths", default="64,128,256,512")
    parser.add_argument("--depths", default="2,4,8,16")
    parser.add_argument("--rates", action="store_true", help="short runs by width and learning rate instead")
    parser.add_argument("--steps", type=int, default=200, help="of those runs")
    options = parser.parse_args()
    configure_threads(EXECUTION)
    widths = [int(width) for width in options.widths.split(",")]
    found: dict[str, Any] = {}
    if options.rates:
        text, exponents = read_text(), range(-10, -4)
        for scaled in (True, False):
            for width in widths if scaled else [width for width in widths if width != BASE_WIDTH]:
                losses = {f"2^{e}": final_loss(width, 2.0**e, scaled, text, options.steps) for e in exponents}
                name = f"{'scaled' if scaled else 'standard'}, width {width}"
                found[name] = losses
                best = min(losses, key=lambda rate: losses[rate])
                print(
                    f"{name:<22}", *(f"{rate} {loss:.3f}" for rate, loss in losses.items()), f" best {best}", flush=True
                )
    else:
        depths = [int(depth) for depth in options.depths.split(",")]
        for rule in options.rules.split(","):
            found[rule] = table(RULES[rule], widths, depths)
            _show(rule, found[rule])
    target = harness.HERE / "results" / ("rates.json" if options.rates else "coordinates.json")
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(found, indent=1))


def _show(rule: str, found: dict[str, dict[str, dict[str, float]]]) -> None:
    for name, sizes in found.items():
        print(f"{rule}, {name}: change of the root mean square in 4 steps")
        for size, values in sizes.items():
            print(f"  {size:<12}", *(f"{what} {value:8.4f}" for what, value in values.items()))


if __name__ == "__main__":
    main()
