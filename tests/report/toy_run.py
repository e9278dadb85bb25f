"""A whole run's folder as the pipeline leaves it, made of plausible figures: no training is needed to test a report."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

VERSIONS = {"python": "3.11.7", "groundup": "0.1.0", "torch": "2.13.0", "tokenizers": "0.23.3", "numpy": "2.4.6"}
STEPS = {"pretrain": 260, "instruct": 180}
TOKENS_PER_STEP = 8192
STAGE_SECONDS = {
    "corpus": 3.4,
    "contamination": 0.6,
    "tokenizer": 2.1,
    "fertility": 0.3,
    "shards": 1.9,
    "conversations": 6.2,
    "questions": 0.4,
    "pretrain": 214.3,
    "instruct": 187.9,
    "evaluate": 41.5,
    "export": 2.6,
}
RECIPE = """\
name: atlas
seed: 1
corpus:
  sources:
  - {name: factbook, path: data/atlas/text/factbook.jsonl.gz}
  - {name: austen, path: data/atlas/text/austen.jsonl.gz}
model: {kind: decoder, context_length: 256, num_layers: 6, hidden_size: 320, num_heads: 5, ffn_size: 896, tied: false}
instruct: {lambda: 1.0, replay_fraction: 0.25}
"""


def account(total: int, rejected: int, short: int, exact: int, near: int) -> dict[str, Any]:
    kept = total - rejected - short - exact - near
    return {
        "total": total,
        "loaded": total - rejected,
        "rejected": {"no field 'text'": rejected} if rejected else {},
        "kept": kept,
        "filtered": {"too short": short} if short else {},
        "duplicates": {"exact": exact, "near": near},
        "contaminated": 0,
        "bytes": {
            "loaded": 905 * (total - rejected),
            "kept": 905 * kept,
            "filtered": {"too short": 905 * short} if short else {},
            "duplicates": {"exact": 905 * exact, "near": 905 * near},
            "contaminated": 0,
        },
    }


def kept_text(documents: int, license_: str) -> dict[str, Any]:
    def all_in(**shares: float) -> dict[str, Any]:
        amounts = {name.replace("_", "-"): round(share * documents) for name, share in shares.items()}
        return {name: {"documents": amount, "bytes": 900 * amount} for name, amount in amounts.items()}

    return {
        "lengths": all_in(**{"256_511": 0.2, "512_1023": 0.5, "1024_2047": 0.3}),
        "scripts": all_in(Latin=0.9, Greek=0.1),
        "languages": all_in(en=0.9, el=0.1),
        "licenses": {license_: {"documents": documents, "bytes": 900 * documents}},
    }


def contamination() -> dict[str, Any]:
    sample = {
        "document": "austen/austen.jsonl:7",
        "example": "exam.jsonl:2",
        "share": 0.75,
        "excerpt": "in want of a wife",
    }
    return {
        "sets": [
            {
                "name": "exam",
                "examples": 40,
                "documents": 3,
                "documents_per_source": {"austen": 3},
                "examples_found": 2,
                "examples_found_fraction": 0.05,
                "samples": [sample],
            },
            {"name": "split-validation", "examples": 142, "documents": 0, "documents_per_source": {}, "samples": []},
        ]
    }


def corpus_report() -> dict[str, Any]:
    def splits(documents: int) -> dict[str, Any]:
        return {"train": {"documents": documents, "characters": documents * 900, "bytes": documents * 905}}

    return {
        **account(7431, 7, 61, 118, 43),
        **kept_text(7202, ""),
        "licenses": {**kept_text(5006, "public domain")["licenses"], **kept_text(2196, "not given")["licenses"]},
        "splits": {**splits(7060), "validation": {"documents": 142, "characters": 127800, "bytes": 128900}},
        "sources": {
            "factbook": {
                **account(5210, 7, 61, 96, 40),
                **kept_text(5006, "public domain"),
                "splits": splits(4906),
                "samples": examples(),
            },
            "austen": {**account(2221, 0, 0, 22, 3), **kept_text(2196, "not given"), "splits": splits(2154)},
        },
        "rules": {"too short": "length"},
        "languages_from": "identification",
        "changed": {
            "unescape": {
                "documents": 12,
                "characters_removed": 480,
                "bytes_removed": 481,
                "samples": [{"id": "austen.jsonl:9", "source": "austen", "before": "&amp;", "after": "&"}],
            }
        },
        "deduplication": {
            "near": True,
            "threshold": 0.8,
            "clusters": 71,
            "largest_cluster": 9,
            "cluster_sizes": {"exact": {"2": 50, "3-4": 9}, "near": {"2": 12}, "all": {"2": 62, "3-4": 9}},
        },
        "samples": examples(),
        "skipped": {
            "total": 1,
            "reasons": {"hidden": 1},
            "examples": [{"source": "austen", "name": ".x", "reason": "hidden"}],
        },
        "files": [
            {
                "source": "factbook",
                "name": "factbook.jsonl.gz",
                "detected": "JSON lines, gzip",
                "problem": "",
                **account(5210, 7, 61, 96, 40),
            },
            {
                "source": "austen",
                "name": "austen.jsonl.gz",
                "detected": "JSON lines, gzip",
                "problem": "",
                **account(2221, 0, 0, 22, 3),
            },
        ],
    }


def examples() -> dict[str, Any]:
    return {
        "rejected": {"no field 'text'": [{"file": "factbook.jsonl", "record": 17, "excerpt": "it has id, body"}]},
        "filtered": {
            "too short": [{"file": "factbook.jsonl", "record": 90, "excerpt": "NA", "value": 2, "bound": 10}],
        },
        "duplicates": {"exact": [{"file": "austen.jsonl", "record": 4, "excerpt": "the same as austen.jsonl:2"}]},
    }


def metric_lines() -> list[dict[str, Any]]:
    draw = random.Random(11)
    lines: list[dict[str, Any]] = []
    for phase, steps in STEPS.items():
        names = ["factbook", "austen"] if phase == "pretrain" else ["replay_factbook", "replay_austen", "questions"]
        for step in range(1, steps + 1):
            done = step / steps
            base = (8.4 - 3.1) * math.exp(-9 * done) + 3.1 if phase == "pretrain" else 2.2 * math.exp(-5 * done) + 1.4
            losses = {f"loss_{name}": base * (0.9 + 0.12 * i) + draw.gauss(0, 0.05) for i, name in enumerate(names)}
            speed = 5600 + draw.gauss(0, 160)
            lines.append(
                {
                    "phase": phase,
                    "step": step,
                    "total_steps": steps,
                    "tokens_seen": step * TOKENS_PER_STEP,
                    "loss": sum(losses.values()) / len(losses),
                    **losses,
                    "grad_norm": 0.6 + 2.5 * math.exp(-20 * done) + abs(draw.gauss(0, 0.08)),
                    "learning_rate": 0.004 * min(1.0, step / 20) * (1.0 if done < 0.7 else (1 - done) / 0.3),
                    "tokens_per_second": round(speed, 1),
                    "mfu": 0.41,
                    "peak_memory_bytes": 1_510_000_000 + step * 400_000,
                    "sample_ids_hash": "0",
                    "skipped": False,
                    "targets": 8000,
                    "seconds": step * TOKENS_PER_STEP / 5600,
                }
            )
            if step % 20 == 0:
                bits = 1.9 * math.exp(-3 * done) + 1.12 + (0.06 * done if phase == "instruct" else 0)
                lines.append(
                    {
                        "phase": phase,
                        "step": step,
                        "seconds": step * TOKENS_PER_STEP / 5600,
                        "validation": {"bits_per_byte": bits, "loss": bits * 2.4, "n_bytes": 128900},
                    }
                )
    return lines


def events() -> list[dict[str, Any]]:
    found = [
        {"event": "checkpoint_saved", "time": f"2026-11-22T01:0{i}:00Z", "phase": "pretrain", "step": 50 * i}
        for i in range(1, 6)
    ]
    resumed = {"event": "resumed", "time": "2026-11-22T01:03:30Z", "phase": "pretrain", "step": 150}
    return [*found[:3], resumed, *found[3:]]


def evaluation() -> dict[str, Any]:
    def metrics(match: float, bits: float) -> dict[str, Any]:
        kinds = {"capital": 0.02, "internet code": 0.01, "nationality": -0.03, "government type": -0.06}
        found = {
            "bits_per_byte": {"value": bits, "stderr": 0.011, "n": 128900},
            "perplexity": {"value": 2 ** (bits * 3.4), "stderr": 0.31, "n": 38000},
            "token_accuracy": {"value": 0.47, "stderr": 0.003, "n": 38000},
            "bits_per_byte/validation": {"value": bits, "stderr": 0.011, "n": 128900},
            "bits_per_byte/test/persuasion": {"value": bits + 0.4, "stderr": 0.02, "n": 466000},
            "exact_match": {"value": match, "stderr": 0.008, "n": 1040},
            "f1": {"value": min(match + 0.03, 1.0), "stderr": 0.007, "n": 1040},
        }
        for kind, shift in kinds.items():
            value = min(max(match + shift, 0.0), 1.0)
            found[f"exact_match/short/{kind}"] = {"value": value, "stderr": 0.015, "n": 260}
        return found

    before = {f"before_instruct:{name}": entry for name, entry in metrics(0.0, 1.17).items()}
    return {**metrics(0.934, 1.21), **before}


def samples() -> dict[str, Any]:
    names = "France Paris Japan Tokyo Peru Lima Chad N'Djamena Fiji Suva Latvia Riga Kenya Nairobi Bhutan Thimphu Malta"
    names += " Valletta Oman Muscat Togo Lomé Cuba Havana Nepal Kathmandu Iran Tehran Laos Vientiane Mali Bamako"
    capitals = dict(zip(names.split()[::2], names.split()[1::2]))

    def answers(right: Callable[[int], bool]) -> list[dict[str, Any]]:
        return [
            {
                "prompt": f"What is the capital of {country}?",
                "reference": capital,
                "prediction": capital if right(i) else "The capital of the country is the capital of the country",
                "exact_match": float(right(i)),
                "f1": float(right(i)),
                "metadata": {"kind": "short", "task": "capital"},
            }
            for i, (country, capital) in enumerate(capitals.items())
        ]

    def continuation(text: str) -> list[dict[str, Any]]:
        return [{"prompt": "It is a truth universally acknowledged, that", "continuation": text}]

    return {
        "base": {
            "answers": answers(lambda i: False),
            "continuations": continuation(" she had been so much in the wrong."),
        },
        "instruct": {
            "answers": answers(lambda i: i % 5 != 3),
            "continuations": continuation(" he could not be mistaken.\n“Indeed!”"),
        },
    }


def fertility() -> dict[str, Any]:
    def figures(n_bytes: int, tokens: int, other: int) -> dict[str, Any]:
        def of(count: int) -> dict[str, Any]:
            return {
                "tokens": count,
                "tokens_per_word": round(count / (n_bytes / 5.8), 4),
                "tokens_per_character": round(count / n_bytes, 4),
                "bytes_per_token": round(n_bytes / count, 4),
                "to_own": round(count / tokens, 4),
            }

        both = {"this tokenizer": of(tokens), "gpt2": of(other)}
        return {"documents": 40, "bytes": n_bytes, "characters": n_bytes, "words": n_bytes // 6, "tokenizers": both}

    return {
        "vocab_size": {"this tokenizer": 4096, "gpt2": 50261},
        "all": figures(128900, 34100, 28800),
        "sources": {"factbook": figures(91300, 24600, 21000), "austen": figures(37600, 9500, 7800)},
        "languages": {"Latin script": figures(128900, 34100, 28800)},
        "split": {"factbook": "validation", "austen": "validation"},
        "bytes_of_each_source": 2_000_000,
    }


def summaries() -> dict[str, Any]:
    def shards(documents: int) -> dict[str, Any]:
        return {"documents": documents, "tokens": documents * 240, "text_bytes": documents * 905, "shards": 1}

    def phase(steps: int) -> dict[str, Any]:
        return {
            "steps": steps,
            "tokens": steps * TOKENS_PER_STEP,
            "skipped_steps": 0,
            "validation": {"bits_per_byte": 1.2},
            "peak_memory_bytes": 1_690_000_000,
            "world_size": 1,
            "micro_batch_rows": 32,
            "parameters": 9_441_600,
            "flops_per_token": 52_300_000,
            "epochs": {"factbook": 1.82, "austen": 0.91},
            "computed_by": "kernels",
        }

    def packed(conversations: int) -> dict[str, Any]:
        return {
            "conversations": conversations,
            "dropped_too_long": 2,
            "truncated": 0,
            "rows": conversations // 8,
            "tokens": conversations * 31,
            "targets": conversations * 9,
            "target_bytes": conversations * 30,
            "padding_share": 0.013,
            "records": {"total": conversations + 3, "accepted": conversations, "rejected": {"no turns": 3}},
        }

    return {
        "corpus": {"kept": 7202},
        "contamination": {},
        "tokenizer": {"vocab_size": 4096, "merges": 3837, "reserved": 0, "documents": 7060, "text_bytes": 6389300},
        "fertility": {"bytes": 128900, "tokenizers": fertility()["all"]["tokenizers"]},
        "shards": {
            "train": {"factbook": shards(4906), "austen": shards(2154)},
            "validation": {"factbook": shards(101), "austen": shards(41)},
        },
        "conversations": {"questions": packed(8320)},
        "questions": {"questions": {"conversations": 1040, "records": {"total": 1040, "accepted": 1040}}},
        "pretrain": phase(STEPS["pretrain"]),
        "instruct": {**phase(STEPS["instruct"]), "lambda": 1.0, "replay_fraction": 0.25},
        "evaluate": {},
        "export": {"from": "instruct", "largest_logit_difference": 3.1e-6},
    }


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def write_lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def make_run(work: Path, done: int = len(STAGE_SECONDS)) -> Path:
    """A run's folder with its first `done` stages finished; the folders of stages lie under work/stages."""
    run = work / "runs" / "atlas"
    run.mkdir(parents=True)
    entries = []
    for i, (name, seconds) in enumerate(STAGE_SECONDS.items()):
        folder = work / "stages" / name / "0123456789abcdef"
        entry: dict[str, Any] = {
            "name": name,
            "fingerprint": "0123456789abcdef",
            "folder": str(folder),
            "state": "missing",
        }
        if i < done:
            entry |= {"state": "done", "seconds": seconds, "summary": summaries()[name]}
            finished_at = f"2026-11-22T01:1{i}:00Z"
            manifest = {
                "format": 1,
                "stage": name,
                "seconds": seconds,
                "finished_at": finished_at,
                "versions": VERSIONS,
            }
            write_json(folder / "manifest.json", {**manifest, "summary": summaries()[name], "files": {}})
        entries.append(entry)
    files = {
        "corpus": {"report.json": corpus_report()},
        "contamination": {"contamination.json": contamination()},
        "fertility": {"report.json": fertility()},
        "evaluate": {"evaluation.json": evaluation(), "samples.json": samples()},
    }
    for name in list(STAGE_SECONDS)[:done]:
        for file, content in files.get(name, {}).items():
            write_json(work / "stages" / name / "0123456789abcdef" / file, content)
    write_json(run / "stages.json", entries)
    (run / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    phases = [name for name in ("pretrain", "instruct") if name in list(STAGE_SECONDS)[:done]]
    write_lines(run / "metrics.jsonl", [line for line in metric_lines() if line["phase"] in phases])
    write_lines(run / "events.jsonl", [event for event in events() if event["phase"] in phases])
    return run
