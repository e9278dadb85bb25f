"""Encoders: Groundup beside transformers' Trainer, on the same rows, the same labelled texts, from the same weights.

    python -m benchmarks.encoder [--sizes 3M,10M] [--tokens 4000000] [--data FILE --heldout FILE] [--seeds 1,2,3]
                                                                                         (make bench-encoder)

Pretraining: masked tokens and next sentences, the same masked rows in the same order, the same budget of tokens; speed
and the loss on the same held-out masked rows. Classification: the encoder that Groundup has pretrained there (the first
size) is the start of both; seeds, accuracy, macro F1, examples per second, packed against padded with length grouping.
AdamW, rates, decay and schedule are the same for both tools; Groundup's recipe (Muon, a start that looks at neighbours)
has rows of its own in no ratio of speed, one with half the tokens: how much sooner it has the loss of a peer is told
apart. Classification starts from the weights of that recipe in both tools.
Writes benchmarks/results/encoder.json.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.sizes import Size, parse_size

from benchmarks import corpus, encoder_data, harness

ROOT = harness.HERE.parent
PRESETS = {"3M": "V4096-d192-L4-H3-ff768-T128", "10M": "V4096-d320-L7-H5-ff1280-T128"}
OURS, RECIPE, HALF = "groundup: adamw", "groundup: recipe", "groundup: recipe, half the tokens"
HALF_EPOCHS = "groundup: recipe, half the epochs"
RECIPE_SETTINGS: dict[str, Any] = {
    "optimizer": {"kind": "muon", "learning_rate": 0.01, "adam_learning_rate": 0.002, "weight_decay": 0.02},
    "model": {"attention_start": "neighbours"},
}
"""As recipes/encoder-mini.yaml has it."""
TASK_RECIPE: dict[str, Any] = {
    "optimizer": {"kind": "muon", "learning_rate": 0.005, "adam_learning_rate": 0.001, "weight_decay": 0.02}
}
"""Muon for the task too, at the best of four rates."""
PRETRAINING: dict[str, dict[str, Any]] = {
    OURS: {},
    RECIPE: RECIPE_SETTINGS,
    HALF: {**RECIPE_SETTINGS, "share": 0.5},
    "transformers: fp32 eager": {},
    "transformers: bf16 eager": {"bf16": True},
    "transformers: bf16 compile": {"bf16": True, "compile": True},
    "transformers: bf16 compile, dropout 0.1": {"bf16": True, "compile": True, "dropout": 0.1},
}
CLASSIFICATION: dict[str, dict[str, Any]] = {
    OURS: {},
    RECIPE: TASK_RECIPE,
    HALF_EPOCHS: {**TASK_RECIPE, "share": 0.5},
    "groundup: adamw, dropout 0.1": {
        "model": {"embedding_dropout": 0.1, "residual_dropout": 0.1, "classifier_dropout": 0.1}
    },
    "transformers: fp32 eager": {},
    "transformers: bf16 eager": {"bf16": True},
    "transformers: bf16 eager, rate 1e-3": {"bf16": True, "learning_rate": 1e-3},
    "transformers: bf16 eager, rate 1e-4": {"bf16": True, "learning_rate": 1e-4},
    "transformers: bf16 eager, dropout 0.1": {"bf16": True, "dropout": 0.1},
}
FIGURES = {
    "pretrain": ("per_second", "train_seconds", "processor_seconds", "first_step_seconds", "masked_loss"),
    "classify": ("per_second", "train_seconds", "processor_seconds", "accuracy", "macro_f1"),
}
Runs = dict[str, list[dict[str, Any]]]


def measure(
    task: str, job: dict[str, Any], seeds: Iterable[int], options: argparse.Namespace, caches: Path, save: Path | None
) -> Runs:
    """All runs of one task: a round of every row for each seed; the first round's row of ours leaves its weights."""
    rows = PRETRAINING if task == "pretrain" else CLASSIFICATION
    runs: Runs = {label: [] for label in rows if harness.wanted(label, options, {})}
    for seed, label in itertools.product(seeds, runs):
        tool = label.partition(":")[0]
        rate = options.learning_rate if task == "pretrain" else options.task_learning_rate
        settings = {"learning_rate": rate, **rows[label]}
        steps = round(job["steps"] * settings.get("share", 1.0))
        full = {**job, "task": task, "seed": seed, "settings": settings, "warmup": 8, "steps": steps}
        if save is not None and label == options.start_from and not runs[label]:
            full["save"] = str(save)
        cache = caches / f"{task}-{label}".replace(":", "").replace(" ", "-").replace(",", "")
        found = harness.run_job(tool, full, cache, options, {}, module=f"encoder_{tool}")
        runs[label].append(found)
        shown = {name: found.get(name) for name in FIGURES[task]}
        print(f"{task} seed {seed} {label}: {found.get('failed') or shown}", file=sys.stderr)
    return runs


def compared(runs: Runs, quality: str, better: int) -> dict[str, Any]:
    """Speed and quality of ours beside each peer's row, seed by seed; and beside the fastest and the best of them."""
    peers = [label for label in runs if not label.startswith("groundup")]

    def column(label: str, name: str) -> list[float | None]:
        return [run.get(name) for run in runs.get(label, [])]

    def difference(label: str) -> dict[str, Any] | None:
        pairs = zip(column(OURS, quality), column(label, quality))
        return harness.spread(better * (a - b) for a, b in pairs if a is not None and b is not None)

    ratios = {label: harness.ratios(column(OURS, "per_second"), column(label, "per_second")) for label in peers}
    found = {label: ratio for label, ratio in ratios.items() if ratio}
    gains = {label: gain for label in peers if (gain := difference(label))}
    return {
        "speed": ratios,
        "to_fastest_peer": min(found.values(), key=lambda ratio: float(ratio["median"]), default=None),
        f"{quality}_gain": gains,
        "gain_to_best_peer": min(gains.values(), key=lambda gain: float(gain["median"]), default=None),
        "half_the_tokens": {label: sooner(runs, label) for label in peers if HALF in runs},
    }


def sooner(runs: Runs, label: str) -> dict[str, Any]:
    """The recipe on half the tokens beside a peer on all: how much sooner it ends, and how often it is as good."""
    pairs = [
        (ours, theirs)
        for ours, theirs in zip(runs[HALF], runs[label])
        if "failed" not in ours and "failed" not in theirs
    ]
    return {
        "times_sooner": harness.spread(theirs["train_seconds"] / ours["train_seconds"] for ours, theirs in pairs),
        "as_good": sum(ours["masked_loss"] <= theirs["masked_loss"] for ours, theirs in pairs),
        "runs": len(pairs),
    }


def table(task: str, runs: Runs) -> str:
    """Rows with their figures; ratios are ours to the row's."""
    quality = ["masked_loss"] if task == "pretrain" else ["accuracy", "macro_f1"]
    ratios = compared(runs, quality[0], 1)["speed"]
    rows = []
    for label, found in runs.items():
        figures = harness.figures(found, FIGURES[task])
        failed = f" (failed: {figures['failed'][0][:60]})" if "failed" in figures else ""
        rows.append(
            [
                label + failed,
                harness.shown(figures["per_second"]),
                harness.shown(ratios.get(label), ".2f"),
                harness.shown(figures["train_seconds"], ".1f"),
                *(harness.shown(figures[name], ".4f") for name in quality),
                str(figures["disturbed_runs"] or ""),
            ]
        )
    speed = "tokens/s" if task == "pretrain" else "examples/s"
    return harness.table(["row", speed, "Groundup's lead", "seconds", *quality, "disturbed"], rows)


def labelled_texts(options: argparse.Namespace) -> dict[str, list[tuple[str, str]]]:
    """The labelled texts that were asked for; passages of Jane Austen's novels without any."""
    if options.data is None:
        return encoder_data.novel_passages(ROOT, options.passages)
    return encoder_data.read_labelled(options.data, options.heldout)


def parse_sizes(text: str) -> list[Size]:
    """Presets of this file, or shapes as in `benchmarks.sizes`."""
    return [parse_size(PRESETS.get(word, word)) for word in text.split(",")]


def main() -> None:
    """Make the data, run all rows, write the JSON, print the tables."""
    parser = harness.parser(__doc__)
    parser.add_argument("--sizes", default="3M,10M", help=f"{', '.join(PRESETS)} or shapes like {PRESETS['3M']}")
    parser.add_argument("--corpus", nargs="+", default=[str(ROOT / "data" / "atlas" / "text")])
    parser.add_argument("--tokens", type=int, default=4_000_000, help="positions of a pretraining run")
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--data", type=Path, help="labelled texts, `text<TAB>label` a line; without it novels")
    parser.add_argument("--heldout", type=Path, help="the same, to judge by; without it a tenth of --data")
    parser.add_argument("--passages", type=int, default=600, help="of each novel, where there is no --data")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-examples", type=int, default=32)
    parser.add_argument("--task-learning-rate", type=float, default=3e-4)
    parser.add_argument(
        "--start-from", default=RECIPE, choices=(OURS, RECIPE), help="whose weights both tools start from"
    )
    parser.add_argument("--seeds", default="1,2,3", help="of classification")
    parser.add_argument("--pretraining-seeds", default="1")
    options = parser.parse_args()
    sizes = parse_sizes(options.sizes)
    facts = harness.machine(options)
    results: dict[str, Any] = {}
    texts = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        steps = options.tokens // options.batch_tokens
        found = [text for file in corpus.corpus_files(options.corpus) for text in corpus.documents(file)]
        for size in sizes:
            time = size.context_length
            data = folder / f"data-V{size.vocab_size}-T{time}"
            if not data.exists():
                rows = steps * options.batch_tokens // time
                encoder_data.prepare(found, labelled_texts(options), size.vocab_size, time, rows, data)
            job = {"size": size.as_dict(), "data": str(data), "batch_tokens": options.batch_tokens, "steps": steps}
            start = folder / "start" if size is sizes[0] else None
            caches = folder / size.word
            seeds = [int(seed) for seed in options.pretraining_seeds.split(",")]
            runs = measure("pretrain", job, seeds, options, caches, start)
            results[size.word] = {**compared(runs, "masked_loss", -1), "runs": runs}
            texts.append(f"## pretraining, {size.word}, {options.tokens:,} tokens\n\n{table('pretrain', runs)}")
            if start is not None and start.exists():
                task = {"start": str(start), "epochs": options.epochs, "batch_examples": options.batch_examples}
                seeds = [int(seed) for seed in options.seeds.split(",")]
                judged = measure("classify", {**job, **task}, seeds, options, caches, None)
                results["classification"] = {**compared(judged, "macro_f1", 1), "runs": judged}
                texts.append(f"## classification, {size.word}\n\n{table('classify', judged)}")
    harness.save(options.name or "encoder", result(results, facts, options), "\n\n".join(texts))


def result(results: dict[str, Any], facts: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """The contract of results/NAME.json; `ratio_to_best_peer` is the smallest lead in speed of all parts."""
    leads = [found["to_fastest_peer"]["median"] for found in results.values() if found["to_fastest_peer"]]
    tools: dict[str, dict[str, Any]] = {"groundup": {}, "transformers": {}}
    for part, found in results.items():
        names = FIGURES["classify" if part == "classification" else "pretrain"]
        rows = {label: harness.figures(runs, names) for label, runs in found["runs"].items()}
        for tool, settings in harness.by_tool(rows).items():
            tools[tool][part] = settings
    return {
        "groundup": tools["groundup"],
        "peers": {"transformers": tools["transformers"]},
        "ratio_to_best_peer": min(leads, default=None),
        "parts": results,
        "machine": facts,
        "options": {name: str(value) for name, value in vars(options).items()},
    }


if __name__ == "__main__":
    main()
