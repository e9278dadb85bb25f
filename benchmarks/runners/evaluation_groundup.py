"""Groundup's own tasks in the evaluation benchmark."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch

import groundup
from groundup import config, evaluate, scoring

if __name__ == "__main__":
    job: dict[str, Any] = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    tasks = []
    for name, settings in job["tasks"].items():
        values = {key: value for key, value in settings.items() if key != "yaml"}
        if "few_shot" in values:
            values["few_shot"] = {**values["few_shot"], "path": job["paths"][values["few_shot"]["path"]]}
        tasks.append({"name": name, "path": job["paths"][name], **values})
    model = groundup.load_model(job["model"])
    began = time.monotonic()
    found = scoring.score(model, config.build(evaluate.EvaluateConfig, {"tasks": tasks}, "benchmark"))
    seconds = time.monotonic() - began
    made = {
        name: {
            "log_likelihoods": [item["log_likelihoods"] for item in found.samples["tasks"][name]["items"]],
            "metrics": {
                metric.partition("/")[2]: entry.value
                for metric, entry in found.metrics.items()
                if metric.partition("/")[0] == name and metric.count("/") == 1
            },
        }
        for name in job["tasks"]
    }
    print(json.dumps({"seconds": seconds, "tasks": made}))
