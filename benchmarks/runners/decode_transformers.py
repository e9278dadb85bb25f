"""transformers.generate in the decoding benchmark: float32 or bfloat16, cache grown or static and compiled.

Its batches: prompts sorted by length, padded on the left, masked; a row that has what was wanted of it ends as a row
does at its stop token, and the batch ends with its longest row.
"""

from __future__ import annotations

from typing import Any

import torch
from benchmarks.runners.decode_session import Ids, main
from transformers import AutoModelForCausalLM, CompileConfig, StoppingCriteria, StoppingCriteriaList


class Wanted(StoppingCriteria):
    """Ends each row at its own length."""

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = torch.tensor(lengths)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return self.lengths <= input_ids.shape[1]


class Transformers:
    """`AutoModelForCausalLM` with its `generate`."""

    def __init__(self, job: dict[str, Any]) -> None:
        torch.set_num_threads(job["threads"])
        settings = job["settings"]
        dtype = torch.bfloat16 if settings["precision"] == "bf16" else torch.float32
        self.model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=dtype).eval()
        self.model.generation_config.eos_token_id = None
        self.model.generation_config.pad_token_id = 0
        self.options: dict[str, Any] = {"do_sample": False}
        if settings.get("compile"):
            config = CompileConfig(fullgraph=False, dynamic=None, mode="default")
            config._compile_all_devices = True  # else it compiles on GPUs only
            self.options |= {"cache_implementation": "static", "compile_config": config}

    @torch.inference_mode()
    def generate(self, prompt: Ids, new_tokens: int) -> Ids:
        tokens = torch.tensor([prompt])
        found = self.model.generate(
            tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=new_tokens, **self.options
        )
        return found[0, len(prompt) :].tolist()

    @torch.inference_mode()
    def batch(self, prompts: list[Ids], wanted: list[int], rows: int) -> list[Ids]:
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        answers: list[Ids] = [[] for _ in prompts]
        for start in range(0, len(order), rows):
            chosen = order[start : start + rows]
            longest = max(len(prompts[index]) for index in chosen)
            tokens = torch.tensor([[0] * (longest - len(prompts[index])) + prompts[index] for index in chosen])
            mask = torch.tensor([[0] * (longest - len(prompts[index])) + [1] * len(prompts[index]) for index in chosen])
            most = max(wanted[index] for index in chosen)
            ends = Wanted([longest + wanted[index] for index in chosen])
            criteria = StoppingCriteriaList([ends] if len({wanted[index] for index in chosen}) > 1 else [])
            found = self.model.generate(
                tokens, attention_mask=mask, max_new_tokens=most, stopping_criteria=criteria, **self.options
            )
            for index, row in zip(chosen, found[:, longest:].tolist()):
                answers[index] = row[: wanted[index]]
        return answers


if __name__ == "__main__":
    main(Transformers)
