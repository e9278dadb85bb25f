"""Instruction tuning: Groundup beside trl's SFTTrainer, from the same weights, on the same ids, for the same epochs.

    python -m benchmarks.sft [--base FOLDER] [--train FILE ...] [--heldout FILE ...] [--epochs 2]
                                                                                            (make bench-sft)
    python -m benchmarks.sft --base models/smollm2-135m --max-steps 4 --length 512 --name sft-smollm2

Full tuning and LoRA; held-out loss of what the assistant says (each conversation alone, float32, one rule for all),
tokens of conversations per second, peak memory of the process while it trains. `groundup: adamw` and trl have the same
optimizer and schedule; their rates are the best of a sweep for each. Without --base, Groundup pretrains the model of
the quickstart first (some minutes). Writes benchmarks/results/sft.json.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import harness, sft_data

ROOT = harness.HERE.parent
QUESTIONS = ROOT / "data" / "atlas" / "questions"
PEERS_VENV = harness.HERE / ".venv-peers"
FULL, LORA = "full", "lora"
ADAMW = {"kind": "adamw", "weight_decay": 0.0, "beta2": 0.999}
LOW_RANK = {"kind": "lora", "rank": 16, "alpha": 32.0}
PEFT = {"r": 16, "lora_alpha": 32}
FIGURES = ("tokens_per_second", "train_seconds", "first_step_seconds", "peak_bytes", "answer_loss")
Runs = dict[str, list[dict[str, Any]]]


def rows(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Row -> its settings; rows of one group (full, lora) are compared with each other."""
    full, low_rank = options.learning_rate, options.lora_learning_rate
    muon = {"kind": "muon", "weight_decay": 0.0, "learning_rate": options.muon_learning_rate,
            "adam_learning_rate": options.muon_learning_rate / 5}  # fmt: skip
    trl_full, trl_lora = {"learning_rate": full}, {"learning_rate": low_rank, "lora": PEFT}
    several = {"rows_at_once": options.rows_at_once}
    return {
        "groundup: full adamw": {"group": FULL, "optimizer": {**ADAMW, "learning_rate": full}},
        "groundup: full adamw trl rows": {
            "group": FULL, "optimizer": {**ADAMW, "learning_rate": full}, "whole": True,
        },
        "groundup: full muon": {"group": FULL, "optimizer": muon},
        "trl: full packed": {"group": FULL, **trl_full, **several},
        "trl: full packed one row at once": {"group": FULL, **trl_full, "rows_at_once": 1},
        "trl: full packed compile": {"group": FULL, **trl_full, **several, "compile": True},
        "trl: full packed bf16 weights": {"group": FULL, **trl_full, **several, "weights": "bf16"},
        "trl: full padded by length": {
            "group": FULL, **trl_full, "rows_at_once": 4 * options.rows_at_once,
            "packing": False, "sampling": "group_by_length",
        },
        "trl: full packed checkpointing": {"group": FULL, **trl_full, **several, "checkpointing": True},
        "groundup: lora adamw": {
            "group": LORA, "optimizer": {**ADAMW, "learning_rate": low_rank}, "instruct": {"tune": LOW_RANK},
        },
        "groundup: lora adamw trl rows": {
            "group": LORA, "optimizer": {**ADAMW, "learning_rate": low_rank}, "instruct": {"tune": LOW_RANK},
            "whole": True,
        },
        "groundup: lora nf4 base": {
            "group": LORA, "optimizer": {**ADAMW, "learning_rate": low_rank},
            "instruct": {"tune": {**LOW_RANK, "base": "nf4"}},
        },
        "groundup: dora adamw": {
            "group": LORA, "optimizer": {**ADAMW, "learning_rate": low_rank},
            "instruct": {"tune": {**LOW_RANK, "kind": "dora"}},
        },
        "trl: lora packed": {"group": LORA, **trl_lora, **several},
        "trl: lora packed compile": {"group": LORA, **trl_lora, **several, "compile": True},
        "trl: lora packed bf16 weights": {"group": LORA, **trl_lora, **several, "weights": "bf16"},
        "trl: lora padded by length": {
            "group": LORA, **trl_lora, "rows_at_once": 4 * options.rows_at_once,
            "packing": False, "sampling": "group_by_length",
        },
    }  # fmt: skip


OURS = {FULL: "groundup: full adamw trl rows", LORA: "groundup: lora adamw trl rows"}
"""What is compared: the same steps on as many rows; without it ours packs closer and makes fewer steps of an epoch."""


def compared(runs: Runs, settings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Speed, memory and loss of our row of each group beside every row of trl in it, seed by seed."""
    found: dict[str, Any] = {}
    for group, ours in OURS.items():
        peers = [row for row in runs if row.startswith("trl") and settings[row]["group"] == group]
        if ours not in runs or not peers:
            continue

        def column(row: str, name: str) -> list[float | None]:
            return [run.get(name) for run in runs[row]]

        def ratios(name: str, ours: str = ours, peers: list[str] = peers) -> dict[str, Any]:
            made = {row: harness.ratios(column(ours, name), column(row, name)) for row in peers}
            return {row: ratio for row, ratio in made.items() if ratio}

        gains = {
            row: harness.spread(
                theirs - own
                for own, theirs in zip(column(ours, "answer_loss"), column(row, "answer_loss"))
                if own is not None and theirs is not None
            )
            for row in peers
        }
        speed, memory = ratios("tokens_per_second"), ratios("peak_bytes")
        losses = [gain["median"] for gain in gains.values() if gain]
        found[group] = {
            "speed": speed,
            "memory": memory,
            "loss_gain": gains,
            "speed_to_fastest": min((ratio["median"] for ratio in speed.values()), default=None),
            "memory_to_smallest": max((ratio["median"] for ratio in memory.values()), default=None),
            "loss_gain_to_best": min(losses, default=None),
        }
    return found


def table(runs: Runs) -> str:
    """Rows with their figures."""
    lines = []
    for row, found in runs.items():
        figures = harness.figures(found, FIGURES)
        failed = f" (failed: {figures['failed'][0][:80]})" if "failed" in figures else ""
        lines.append(
            [
                row + failed,
                harness.shown(figures["tokens_per_second"]),
                harness.shown(figures["train_seconds"], ".1f"),
                harness.shown(figures["peak_bytes"], ",.0f", 1e-6),
                harness.shown(figures["answer_loss"], ".4f"),
                str(figures["disturbed_runs"] or ""),
            ]
        )
    return harness.table(["row", "tokens/s", "seconds", "peak MB", "held-out loss", "disturbed"], lines)


def quickstart_base(folder: Path, options: argparse.Namespace) -> Path:
    """The quickstart's model before instruction tuning, as a model folder."""
    words = [f"runtime.workdir={folder}", "instruct=null", "name=base", f"pretrain.tokens={options.base_tokens}"]
    command = [sys.executable, "-m", "groundup", "export", str(ROOT / "recipes" / "atlas.yaml"), *words, "--quiet"]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, cwd=ROOT)
    return folder / "runs" / "base" / "model"


def measure(
    job: dict[str, Any], settings: dict[str, dict[str, Any]], options: argparse.Namespace, caches: Path
) -> Runs:
    """A round of every row for each seed."""
    runs: Runs = {row: [] for row in settings if harness.wanted(row, options, {})}
    for seed, row in itertools.product([int(seed) for seed in options.seeds.split(",")], runs):
        tool = row.partition(":")[0]
        cache = caches / row.replace(":", "").replace(" ", "-").replace(",", "")
        asked = {**job, "seed": seed, "settings": settings[row]}
        found = harness.run_job("transformers" if tool == "trl" else tool, asked, cache, options, {}, f"sft_{tool}")
        runs[row].append(found)
        shown = {name: found.get(name) for name in FIGURES}
        print(f"seed {seed} {row}: {found.get('failed') or shown}", file=sys.stderr)
    return runs


def main() -> None:
    """Make the data, run all rows, write the JSON, print the table."""
    parser = harness.parser(__doc__)
    parser.add_argument("--base", type=Path, help="model folder of Groundup's; without it the quickstart's, pretrained")
    parser.add_argument("--base-tokens", type=int, default=1_400_000, help="to pretrain the quickstart's model on")
    parser.add_argument(
        "--train", type=Path, nargs="+", default=[QUESTIONS / "short.jsonl.gz", QUESTIONS / "long.jsonl.gz"]
    )
    parser.add_argument("--heldout", type=Path, nargs="+", default=[QUESTIONS / "heldout.jsonl.gz"])
    parser.add_argument("--conversations", type=int, default=6000, help="of each side, at most")
    parser.add_argument("--length", type=int, default=256, help="positions of a row")
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--rows-at-once", type=int, default=8, help="packed rows in one forward of trl")
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--max-steps", type=int, default=0, help="for speed and memory only: no loss is measured")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--muon-learning-rate", type=float, default=2e-2)
    parser.add_argument("--lora-learning-rate", type=float, default=3e-3)
    parser.add_argument("--seeds", default="1,11,21", help="apart: trl shuffles epoch e of seed s by s + e")
    options = parser.parse_args()
    facts, settings = harness.machine(options), rows(options)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = options.base or quickstart_base(folder / "base", options)
        sft_data.prepare(base, options.train, options.heldout, options.length, options.conversations, folder / "data")
        job = {
            "data": str(folder / "data"),
            "base": str(base.resolve()),
            "epochs": options.epochs,
            "max_steps": options.max_steps,
            "judge": not options.max_steps,
            "batch_tokens": options.batch_tokens,
            "warmup": 1 if options.max_steps else 8,
        }
        runs = measure(job, settings, options, folder / "caches")
        data = (folder / "data" / "facts.json").read_text()
    groups = compared(runs, settings)
    figures = {row: harness.figures(found, FIGURES) for row, found in runs.items()}
    by_tool = harness.by_tool(figures)
    result = {
        "groundup": by_tool.get("groundup", {}),
        "peers": {"trl": by_tool.get("trl", {})},
        "ratio_to_best_peer": min(
            (each["speed_to_fastest"] for each in groups.values() if each["speed"]), default=None
        ),
        "compared": groups,
        "runs": runs,
        "data": data,
        "machine": facts,
        "options": {key: str(value) for key, value in vars(options).items()},
    }
    harness.save(options.name or "sft", result, table(runs))


if __name__ == "__main__":
    main()
