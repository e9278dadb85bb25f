"""Groundup's side of the decoding benchmark: a model folder, loaded and asked as `groundup generate` does it."""

from __future__ import annotations

from typing import Any

import torch
from benchmarks.runners.decode_session import Ids, main

from groundup import load_model
from groundup.inference import GenerateConfig, generate_ids
from groundup.inference.sequences import Running, Sampling, run_sequences


class Groundup:
    """`precision` fp32 is what `load_model` gives; bf16 is what a recipe's evaluation computes in."""

    def __init__(self, job: dict[str, Any]) -> None:
        torch.set_num_threads(job["threads"])
        self.model = load_model(job["model"], need_tokenizer=False).model
        if job["settings"]["precision"] == "bf16":
            self.model.set_compute_dtype(torch.bfloat16)

    def generate(self, prompt: Ids, new_tokens: int) -> Ids:
        return list(generate_ids(self.model, prompt, GenerateConfig(max_new_tokens=new_tokens), ()))

    def batch(self, prompts: list[Ids], wanted: list[int], rows: int) -> list[Ids]:
        """As `generate_batch`, which knows no lengths of single answers."""
        running = [Running(i, list(p), n, torch.Generator()) for i, (p, n) in enumerate(zip(prompts, wanted))]
        answers: list[Ids] = [[] for _ in prompts]
        for sequence, token in run_sequences(self.model, running, Sampling(0.0, 0, 1.0, 1.0), rows):
            answers[sequence.index].append(token)
        return answers


if __name__ == "__main__":
    main(Groundup)
