"""A recipe over text made here, small enough that every stage together takes seconds."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import yaml

WORDS = ("river", "stone", "winter", "garden", "letter", "morning", "silver", "window", "captain", "story", "forest")
PLACES = {f"{a}{b}land": f"{b}{a}ville" for a in ("Nor", "Sud", "Est", "Wes") for b in ("mar", "vel", "kin", "dor")}

PHRASINGS = ("What is the capital of {}?", "Name the capital of {}.", "Which city is the capital of {}?")

RUNTIME = {"threads": 1, "compile": "off", "checkpoint_every_seconds": 0.2, "validate_every_steps": 10}


def write_data(folder: Path) -> None:
    """Text about made-up countries and questions about their capitals."""
    random_words = random.Random(7)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "text.jsonl").open("w", encoding="utf-8") as handle:
        for number in range(60):
            country = sorted(PLACES)[number % len(PLACES)]
            words = " ".join(random_words.choice(WORDS) for _ in range(60))
            text = f"{country}. The capital of {country} is {PLACES[country]}. Document {number}: {words}."
            handle.write(json.dumps({"id": f"d{number}", "text": text}) + "\n")

    with (folder / "train.jsonl").open("w") as train, (folder / "heldout.jsonl").open("w") as heldout:
        for number, (country, capital) in enumerate(sorted(PLACES.items())):
            for index, phrasing in enumerate(PHRASINGS):
                turns = [
                    {"role": "user", "content": phrasing.format(country)},
                    {"role": "assistant", "content": capital},
                ]
                record = {"messages": turns, "task": "capital", "kind": "phrasing"}
                (heldout if index == number % 3 else train).write(json.dumps(record) + "\n")


def write_preferences(folder: Path) -> None:
    """The right capital and that of another country, of each country in pairs.jsonl and pairs-heldout.jsonl."""
    countries = sorted(PLACES)
    with (folder / "pairs.jsonl").open("w") as train, (folder / "pairs-heldout.jsonl").open("w") as heldout:
        for number, country in enumerate(countries):
            for step, phrasing in enumerate(PHRASINGS):
                other = PLACES[countries[(number + 1 + step) % len(countries)]]
                record = {"prompt": phrasing.format(country), "chosen": PLACES[country], "rejected": other}
                (heldout if step == number % 3 else train).write(json.dumps(record) + "\n")


def recipe(folder: Path, name: str = "tiny", **changes: Any) -> dict[str, Any]:
    """Values of a recipe over `write_data(folder)`; `changes` replace whole sections."""
    phase = {"tokens": 20 * 512, "global_batch_tokens": 512, "precision": "fp32"}
    values = {
        "name": name,
        "corpus": {
            "sources": [{"name": "text", "path": str(folder / "text.jsonl")}],
            "split": {"validation": 0.2},
            "deduplicate": {"near": False},
        },
        "tokenizer": {"vocab_size": 384},
        "model": {
            "kind": "decoder", "context_length": 64, "num_layers": 2, "hidden_size": 32, "num_heads": 2,
            "num_kv_heads": 1, "ffn_size": 64,
        },
        "pretrain": phase,
        "instruct": {
            **phase,
            "sources": [{"name": "questions", "path": str(folder / "train.jsonl")}],
            "heldout": [{"name": "questions", "path": str(folder / "heldout.jsonl")}],
            "lambda": 2.0,
        },
        "evaluate": {"max_new_tokens": 12, "continuation_tokens": 8},
        "runtime": {"workdir": str(folder / "work"), **RUNTIME},
    }  # fmt: skip
    return {**values, **changes}


def write_recipe(folder: Path, **changes: Any) -> Path:
    """Data and recipe file under `folder`; returns the recipe's path."""
    write_data(folder)
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe(folder, **changes), sort_keys=False), encoding="utf-8")
    return path
