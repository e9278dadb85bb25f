"""Preferences: Groundup's DPO, IPO, KTO and ORPO beside trl's trainers, from the same weights, on the same batches.

    python -m benchmarks.preferences [--rules dpo,ipo,kto,orpo] [--steps 24] [--batch 8] [--data FILE]
                                                                                     (make bench-preferences)

Curves: fp32, AdamW at a constant rate, no dropout; each step of both tools, and how far their losses differ. Speed and
memory: pairs per second behind the first steps and the peak of the process, ours also with the defaults of `runtime:`
in bf16, trl's also with the reference's log-probabilities computed beforehand. Data are the short questions of the
atlas, each with the answer to another; `--data` takes any file that `preferences.sources` takes.
ORPO is defined in two ways: the likelihood of trl is over prompt and answer, all tokens of a batch together; ours,
as the paper's, over the answer, pair by pair. Prompts of one token and answers of one length make both the same.
Writes benchmarks/results/preferences.json.
"""

from __future__ import annotations

import gzip
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from benchmarks import harness
from groundup.export import save_model
from groundup.models import DecoderConfig, build_model
from groundup.tokens import PreferenceReading, PreferenceSourceConfig, TokenizerConfig, train_tokenizer
from groundup.tokens.tokenizer import Tokenizer

QUESTIONS = harness.HERE.parent / "data" / "atlas" / "questions" / "short.jsonl.gz"
ROWS: dict[str, dict[str, Any]] = {
    "groundup: fp32": {},
    "groundup: defaults": {"defaults": True},
    "transformers: trl fp32": {},
    "transformers: trl fp32, reference beforehand": {"precompute": True},
}
CURVES = ("groundup: fp32", "transformers: trl fp32")
FIGURES = ("per_second", "seconds", "reference_seconds", "peak_memory_bytes")
Pair = dict[str, str]


def atlas_pairs() -> Iterator[Pair]:
    """Questions with their answer, and the answer to another question of the same task."""
    records = [json.loads(line) for line in gzip.decompress(QUESTIONS.read_bytes()).decode().splitlines()]
    by_task: dict[str, list[Pair]] = {}
    for record in records:
        question, answer = (turn["content"] for turn in record["messages"][-2:])
        by_task.setdefault(record.get("task", ""), []).append({"prompt": question, "chosen": answer})
    pairs = []
    for group in by_task.values():
        for one, other in pairwise(group):
            if one["chosen"] != other["chosen"]:
                pairs.append({**one, "rejected": other["chosen"]})
    random.Random(1).shuffle(pairs)
    yield from pairs


def pairs_of(path: Path) -> Iterator[Pair]:
    """Pairs of a file with one turn of the user each; others are left out."""
    for found in PreferenceReading(PreferenceSourceConfig(name="data", path=str(path)), Path.cwd()):
        if len(found.prompt) == 1 and found.chosen and found.rejected:
            yield {"prompt": found.prompt[0].text, "chosen": found.chosen.text, "rejected": found.rejected.text}


def make_model(folder: Path, texts: list[str], options: Any) -> None:
    """A tokenizer of the texts and random weights, as a Hugging Face folder."""
    (folder / "tokenizer").mkdir()
    train_tokenizer(TokenizerConfig(vocab_size=options.vocab_size), texts, folder / "tokenizer")
    tokenizer = Tokenizer.load(folder / "tokenizer")
    config = DecoderConfig(
        context_length=options.context_length,
        num_layers=options.layers,
        hidden_size=options.hidden_size,
        num_heads=options.hidden_size // 64,
        num_kv_heads=options.hidden_size // 64,
        ffn_size=options.hidden_size * 8 // 3 // 32 * 32,
    )
    model = build_model(config, tokenizer.vocab_size)
    model.initialise(1)
    save_model(model, tokenizer, folder / "model", with_transformers=False)


def main() -> None:
    """Make the data, run all rows of all rules, write the JSON, print the table."""
    parser = harness.parser(__doc__)
    parser.add_argument("--rules", default="dpo,ipo,kto,orpo")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--batch", type=int, default=8, help="pairs (KTO: judged answers) of a step")
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--data", type=Path, help="preferences instead of the atlas questions")
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--hidden-size", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--context-length", type=int, default=1024)
    options = parser.parse_args()
    facts, results, lines = harness.machine(options), dict[str, Any](), list[list[str]]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = pairs_of(options.data) if options.data else atlas_pairs()
        pairs = list(islice(source, options.steps * options.batch))
        make_model(folder, [text for pair in pairs for text in pair.values()], options)
        (folder / "pairs.json").write_text(json.dumps(pairs), encoding="utf-8")
        asked = ("steps", "batch", "learning_rate", "beta", "context_length")
        job = {"place": str(folder), **{key: getattr(options, key) for key in asked}}
        for rule in options.rules.split(","):
            runs: dict[str, list[dict[str, Any]]] = {}
            for number in range(options.rounds):
                for label, settings in ROWS.items():
                    # trl's ORPO has no reference.
                    if not harness.wanted(label, options, {}) or (rule == "orpo" and settings.get("precompute")):
                        continue
                    tool, cache = label.partition(":")[0], folder / f"{rule}-{label}".replace(" ", "-")
                    runner = "preferences_groundup" if tool == "groundup" else "preferences_trl"
                    full = {**job, **settings, "rule": rule}
                    found = harness.run_job(tool, full, cache, options, {}, module=runner)
                    runs.setdefault(label, []).append(found)
                    shown = {key: found.get(key) for key in FIGURES}
                    print(f"{rule} round {number} {label}: {found.get('failed') or shown}", file=sys.stderr)
            results[rule] = judged(runs)
            lines += [[rule, label, *row] for label, row in shown_rows(results[rule], runs).items()]
    head = ["rule", "row", "largest difference of losses", "pairs/s", "reference s", "peak MB", "disturbed"]
    harness.save("preferences", {"machine": facts, "settings": job, "rules": results}, harness.table(head, lines))


def judged(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Both curves, their largest difference, the spread of the figures, and ours beside each peer's row."""
    curves = {label: runs[label][0].get("losses") for label in CURVES if label in runs}
    ours, theirs = (curves.get(label) for label in CURVES)
    largest = max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) if ours and theirs else None
    speeds = {label: [run.get("per_second") for run in found] for label, found in runs.items()}
    return {
        "curves": curves,
        "largest_difference": largest,
        "figures": {label: harness.figures(found, FIGURES) for label, found in runs.items()},
        "ratio": {label: harness.ratios(speeds.get(CURVES[0], []), speeds[label]) for label in speeds},
    }


def shown_rows(result: dict[str, Any], runs: dict[str, list[dict[str, Any]]]) -> dict[str, list[str]]:
    """Cells of the table by row."""
    rows = {}
    for label in runs:
        figures = result["figures"][label]
        difference = result["largest_difference"] if label == CURVES[1] else None
        failed = f"failed: {figures['failed'][0][:60]}" if "failed" in figures else ""
        rows[label] = [
            failed or ("-" if difference is None else f"{difference:.1e}"),
            harness.shown(figures["per_second"], ".1f"),
            harness.shown(figures["reference_seconds"], ".2f"),
            harness.shown(figures["peak_memory_bytes"], ",.0f", 1e-6),
            str(figures["disturbed_runs"] or ""),
        ]
    return rows


if __name__ == "__main__":
    main()
