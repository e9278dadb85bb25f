"""lm-eval in the evaluation benchmark: its own task files, with local items in place of the hub's."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import lm_eval
import torch
from lm_eval.tasks import TaskManager

OWN = Path(lm_eval.__file__).parent / "tasks"


def task_file(name: str, settings: dict[str, Any], job: dict[str, Any], folder: Path) -> None:
    """A task that includes lm-eval's and has other items."""
    few = settings.get("few_shot")
    files = {"test": job["paths"][name], **({"dev": job["paths"][few["path"]]} if few else {})}
    values = {
        "include": str(OWN / settings["yaml"]),
        "task": f"own_{name}",
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": files},
        "training_split": None,
        "validation_split": None,
        "test_split": "test",
        "fewshot_split": "dev" if few else None,
        "num_fewshot": few["count"] if few else 0,
        "tag": None,
    }
    (folder / f"own_{name}.yaml").write_text(json.dumps(values), encoding="utf-8")  # JSON is YAML


def measure(job: dict[str, Any], model: str, model_args: dict[str, Any]) -> None:
    """All tasks with one model; prints a JSON line."""
    torch.set_num_threads(job["threads"])
    folder = Path(job["scratch"]) / f"tasks-{model}"
    folder.mkdir()
    for name, settings in job["tasks"].items():
        task_file(name, settings, job, folder)
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    began = time.monotonic()
    made: dict[str, Any] = {}
    found = lm_eval.simple_evaluate(
        model=model,
        model_args=model_args,
        tasks=[f"own_{name}" for name in job["tasks"]],
        task_manager=manager,
        batch_size=16,
        log_samples=True,
        bootstrap_iters=0,
    )
    for name in job["tasks"]:
        samples = sorted(found["samples"][f"own_{name}"], key=lambda sample: sample["doc_id"])
        results = found["results"][f"own_{name}"]
        made[name] = {
            "log_likelihoods": [[float(each[0][0]) for each in sample["resps"]] for sample in samples],
            "metrics": {key.partition(",")[0]: value for key, value in results.items() if isinstance(value, float)},
        }
    print(json.dumps({"seconds": time.monotonic() - began, "tasks": made}))


if __name__ == "__main__":
    given: dict[str, Any] = json.loads(sys.argv[1])
    measure(given, "hf", {"pretrained": given["model"], "dtype": "float32", "device": "cpu"})
