"""Pairs of a right and a wrong answer, for `recipes/preferences-mini.yaml` and for trying preferences.

    python data/preferences/build.py

From the questions of `../smoke/questions`: the better answer is the question's own, the worse one that of the next
country (in the order of names) with another answer to the same task. Invariant: a pure function of the questions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCE = HERE.parent / "smoke" / "questions"
SPLITS = ("train", "heldout")


def build() -> dict[str, list[str]]:
    """File name -> its lines."""
    records = {split: _records(split) for split in SPLITS}
    answers: dict[str, dict[str, str]] = {}
    for record in records["train"]:
        if "country" in record:
            answers.setdefault(record["task"], {})[record["country"]] = record["messages"][-1]["content"]
    return {f"{split}.jsonl": _pairs(found, answers) for split, found in records.items()}


def _records(split: str) -> list[dict[str, Any]]:
    lines = (SOURCE / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _pairs(records: list[dict[str, Any]], answers: dict[str, dict[str, str]]) -> list[str]:
    lines = []
    for record in records:
        if "country" not in record:
            continue
        messages, of_task = record["messages"], answers[record["task"]]
        right, countries = messages[-1]["content"], sorted(of_task)
        start = countries.index(record["country"])
        others = (of_task[name] for name in countries[start + 1 :] + countries[:start])
        wrong = next((answer for answer in others if answer != right), None)
        if wrong is not None:
            pair = {"prompt": messages[:-1], "chosen": messages[-1:], "rejected": [{**messages[-1], "content": wrong}]}
            lines.append(json.dumps({**pair, "task": record["task"]}, ensure_ascii=False))
    return lines


def main() -> None:
    """Write the files."""
    for name, lines in build().items():
        (HERE / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
