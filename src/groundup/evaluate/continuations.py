"""Beginnings of text -> how the model goes on, as samples for people to read; nothing is scored.

Invariant: the same model, prompts and config give the same continuations.
"""

from __future__ import annotations

from groundup.evaluate.task import EvaluateConfig, Result, Subject
from groundup.inference import GenerateConfig, generate_batch
from groundup.models import CausalNetwork


def measure_continuations(subject: Subject, config: EvaluateConfig) -> Result:
    """One continuation per prompt, drawn at the config's temperature; too long prompts keep their end only."""
    tokenizer, model = subject.tokenizer, subject.model
    if not config.continuations or not isinstance(model, CausalNetwork):
        return Result()
    room = model.config.context_length - 1
    prompts = [tokenizer.document_prompt(text)[-room:] for text in config.continuations]
    generation = GenerateConfig(
        max_new_tokens=config.continuation_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        seed=config.seed,
    )
    answers = generate_batch(model, prompts, generation, tokenizer.stop_ids)
    samples = [
        {"prompt": text, "continuation": tokenizer.decode(ids)} for text, ids in zip(config.continuations, answers)
    ]
    return Result(samples={"continuations": samples})
