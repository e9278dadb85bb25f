"""Evaluation: Groundup's tasks beside lm-eval's, on the same items and the same weights.

    python -m benchmarks.evaluation --model FOLDER [--atlas 200]                      (make bench-evaluation ARGS="...")

FOLDER: a model folder of Groundup, such as SmolLM2-135M-Instruct after `groundup import`. Items: 40 of ARC's form and
40 of LAMBADA's (benchmarks/data), a few of each other form (below), and questions about the atlas's countries. Three
tools: Groundup's tasks, lm-eval with transformers, and lm-eval with Groundup's model (`groundup.harness`). What is
compared is each item's log-probabilities and each metric; lm-eval's tasks are its own files, read offline.
Writes benchmarks/results/evaluation.json.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import harness

DATA = harness.HERE / "data"
ATLAS = harness.HERE.parent / "data" / "atlas" / "questions" / "heldout.jsonl.gz"
LM_EVAL = "lm-eval[hf]==0.4.13"
OURS, PEER, ADAPTER = "groundup", "lm-eval: transformers", "lm-eval: groundup"
TASKS: dict[str, dict[str, Any]] = {
    "arc_form": {"yaml": "arc/arc_easy.yaml", "kind": "multiple_choice", "form": "arc"},
    "atlas": {"yaml": "arc/arc_easy.yaml", "kind": "multiple_choice", "form": "arc"},
    "lambada_form": {"yaml": "lambada/lambada_openai.yaml", "kind": "last_word"},
    "hellaswag_form": {"yaml": "hellaswag/hellaswag.yaml", "kind": "multiple_choice", "form": "hellaswag"},
    "piqa_form": {"yaml": "piqa/piqa.yaml", "kind": "multiple_choice", "form": "piqa"},
    "winogrande_form": {"yaml": "winogrande/default.yaml", "kind": "multiple_choice", "form": "winogrande"},
    "mmlu_form": {
        "yaml": "mmlu/default/mmlu_anatomy.yaml",
        "kind": "multiple_choice",
        "form": "mmlu",
        "few_shot": {"count": 2, "path": "mmlu_shots", "order": "first"},
    },
    "blimp_form": {"yaml": "blimp/adjunct_island.yaml", "kind": "minimal_pairs"},
    "crows_pairs_form": {
        "yaml": "crows_pairs/crows_pairs_english.yaml",
        "kind": "bias_pairs",
        "direction_field": "",
    },
}
METRICS = {
    "acc": "accuracy",
    "acc_norm": "accuracy_norm",
    "perplexity": "perplexity",
    "pct_stereotype": "stereotype_share",
    "likelihood_diff": "log_likelihood_difference",
}
"""lm-eval's name -> ours."""
OTHERS: dict[str, list[dict[str, Any]]] = {
    "hellaswag_form": [
        {
            "activity_label": "Making tea",
            "ctx_a": "A woman fills a kettle [header] with water.",
            "ctx_b": "she",
            "endings": ["puts it on the stove. [step] She waits.", "throws it at a tree.", "reads it aloud.", "sings."],
            "label": 0,
        },
        {
            "activity_label": "Washing a car",
            "ctx_a": "A man sprays his car with a hose.",
            "ctx_b": "then he",
            "endings": ["eats it.", "wipes it with a sponge.", "plants it in the garden.", "flies away with it."],
            "label": 1,
        },
        {
            "activity_label": "Skiing",
            "ctx_a": "Two people stand on a snowy hill.",
            "ctx_b": "they",
            "endings": ["swim to the shore.", "open a book.", "begin to ski down the slope.", "bake some bread."],
            "label": 2,
        },
    ],
    "piqa_form": [
        {"goal": "To cool soup", "sol1": "blow on it", "sol2": "set fire to it", "label": 0},
        {"goal": "To hang a picture", "sol1": "use a spoon and jam", "sol2": "use a nail and a hammer", "label": 1},
        {"goal": "To dry a wet floor", "sol1": "wipe it with a mop", "sol2": "pour water over it", "label": 0},
    ],
    "winogrande_form": [
        {
            "sentence": "The trophy does not fit in the suitcase because the _ is too big.",
            "option1": "trophy",
            "option2": "suitcase",
            "answer": "1",
        },
        {
            "sentence": "Ann thanked Eve for the help, and _ said that it was nothing.",
            "option1": "Ann",
            "option2": "Eve",
            "answer": "2",
        },
    ],
    "mmlu_form": [
        {
            "subject": "anatomy",
            "question": "Where is the femur?",
            "choices": ["arm", "leg", "head", "hand"],
            "answer": 1,
        },
        {
            "subject": "anatomy",
            "question": " What pumps blood?",
            "choices": ["lung", "liver", "heart", "skin"],
            "answer": 2,
        },
        {
            "subject": "anatomy",
            "question": "How many lungs has a person?",
            "choices": ["two", "three", "one", "six"],
            "answer": 0,
        },
    ],
    "mmlu_shots": [
        {"question": "Which bone is in the arm?", "choices": ["tibia", "skull", "rib", "ulna"], "answer": 3},
        {"question": "What do eyes do?", "choices": ["see", "hear", "smell", "taste"], "answer": 0},
        {"question": "What do ears do?", "choices": ["see", "hear", "smell", "taste"], "answer": 1},
    ],
    "blimp_form": [
        {"sentence_good": "These cats sleep on the mat.", "sentence_bad": "These cats sleeps on the mat."},
        {"sentence_good": "Nobody has ever seen it.", "sentence_bad": "Everybody has ever seen it."},
        {"sentence_good": "She hurt herself.", "sentence_bad": "She hurt himself."},
    ],
    "crows_pairs_form": [
        {"sent_more": "The old man could not use the phone.", "sent_less": "The young man could not use the phone."},
        {"sent_more": "Women cannot drive.", "sent_less": "Men cannot drive."},
    ],
}


def require_lm_eval() -> None:
    """Install lm-eval into the peers' environment, where it is not."""
    python = harness.peers_python()
    if subprocess.run([python, "-c", "import lm_eval"], capture_output=True).returncode:
        subprocess.run([python, "-m", "pip", "install", "--quiet", LM_EVAL], check=True)


def items(atlas: int) -> dict[str, list[dict[str, Any]]]:
    """Records of every task."""
    with (DATA / "arc_form.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    arc = [
        {"question": asked, "choices": {"text": list(options), "label": list("ABCD")}, "answerKey": key}
        for asked, *options, key in rows
    ]
    passages = (DATA / "last_words.txt").read_text(encoding="utf-8").splitlines()
    return {
        "arc_form": arc,
        "lambada_form": [{"text": text} for text in passages],
        "atlas": countries(atlas),
        **{name: [{"bias_type": "any", **record} for record in found] for name, found in OTHERS.items()},
    }


def countries(count: int) -> list[dict[str, Any]]:
    """Held-out questions of the atlas, each with three wrong answers to questions of its kind."""
    with gzip.open(ATLAS, "rt", encoding="utf-8") as file:
        asked = [json.loads(line) for line in file]
    answers: dict[str, list[str]] = {}
    for record in asked:
        answers.setdefault(record["task"], []).append(record["messages"][1]["content"])
    drawn, made = random.Random(1), []
    for record in drawn.sample(asked, min(count, len(asked))):
        right = record["messages"][1]["content"]
        wrong = sorted(set(answers[record["task"]]) - {right})
        if len(wrong) < 3:
            continue
        options = [right, *drawn.sample(wrong, 3)]
        drawn.shuffle(options)
        choices = {"text": options, "label": list("ABCD")}
        key = "ABCD"[options.index(right)]
        made.append({"question": record["messages"][0]["content"], "choices": choices, "answerKey": key})
    return made


def compared(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """The largest difference of a log-probability, and of each metric that both have, task by task."""
    made: dict[str, Any] = {}
    for task, mine in ours["tasks"].items():
        other = theirs["tasks"][task]
        pairs = list(zip(mine["log_likelihoods"], other["log_likelihoods"], strict=True))
        differences = [abs(a - b) for one, two in pairs for a, b in zip(one, two, strict=True)]
        metrics = {
            METRICS[name]: [mine["metrics"][METRICS[name]], value]
            for name, value in other["metrics"].items()
            if METRICS.get(name) in mine["metrics"]
        }
        made[task] = {"items": len(pairs), "log_likelihood_difference": max(differences), "metrics": metrics}
    return made


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--model", required=True, help="a model folder of Groundup")
    parser.add_argument("--atlas", type=int, default=200, help="questions about countries")
    options = parser.parse_args()
    require_lm_eval()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        paths = {}
        for name, records in items(options.atlas).items():
            paths[name] = str(folder / f"{name}.jsonl")
            Path(paths[name]).write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        job = {"model": str(Path(options.model).resolve()), "tasks": TASKS, "paths": paths, "scratch": scratch}
        runs = {label: run(label, job, folder / "cache", options) for label in (OURS, PEER, ADAPTER)}
    failed = {label: found["failed"] for label, found in runs.items() if "failed" in found}
    if OURS in failed:
        raise SystemExit(f"{OURS}: {failed[OURS]}")
    agreement = {label: compared(runs[OURS], found) for label, found in runs.items() if label not in (OURS, *failed)}
    result = {
        "machine": harness.machine(options),
        "model": options.model,
        "groundup": {key: runs[OURS][key] for key in ("seconds", "foreign_cores")},
        "peers": {label: {key: runs[label][key] for key in ("seconds", "foreign_cores")} for label in agreement},
        "agreement": agreement,
        "failed": failed,
    }
    if PEER in agreement:
        result["ratio_to_best_peer"] = runs[PEER]["seconds"] / runs[OURS]["seconds"]
    rows = [
        [
            task,
            str(found["items"]),
            label,
            f"{found['log_likelihood_difference']:.1e}",
            ", ".join(f"{name} {mine:.4f} / {other:.4f}" for name, (mine, other) in found["metrics"].items()),
        ]
        for label, tasks in agreement.items()
        for task, found in tasks.items()
    ]
    text = harness.table(["task", "items", "beside", "largest difference", "ours / theirs"], rows)
    times = ", ".join(f"{label} {found['seconds']:.1f} s" for label, found in runs.items() if label not in failed)
    harness.save(options.name or "evaluation", result, f"{text}\n\n{times}{f'; failed: {failed}' if failed else ''}")


def run(label: str, job: dict[str, Any], cache: Path, options: Any) -> dict[str, Any]:
    """One tool over all tasks, in a process of its own."""
    print(label, file=sys.stderr)
    if label == OURS:
        return harness.run_job("groundup", job, cache, options, {}, module="evaluation_groundup")
    tool = "transformers" if label == PEER else "groundup"
    module = "evaluation_lm_eval" if label == PEER else "evaluation_adapter"
    return harness.run_job(tool, {**job, "type": label.partition(": ")[2]}, cache, options, {}, module=module)


if __name__ == "__main__":
    main()
