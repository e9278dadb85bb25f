"""trl's SFTTrainer, the real one, on the same ids and labels; with `lora` peft's adapters.

Its defaults are kept but for what the job sets. Packing is its own (best fit, documents kept apart by positions).
"""

from __future__ import annotations

import tempfile
from typing import Any

import torch
import transformers
import trl
from benchmarks.runners.sft_session import Session
from benchmarks.runners.trainers import Scheduled
from datasets import Dataset


class Trainer(Scheduled, trl.SFTTrainer):
    """The SFTTrainer with the session's schedule."""


def adapter(session: Session) -> Any:
    """peft's config of the adapter that is asked for; None without."""
    asked = session.settings.get("lora")
    if asked is None:
        return None
    import peft

    return peft.LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM", **asked)


def main() -> None:
    """Do the job, print one JSON line."""
    session = Session()
    settings = session.settings
    dtype = torch.bfloat16 if settings.get("weights") == "bf16" else torch.float32
    model = transformers.AutoModelForCausalLM.from_pretrained(session.job["base"], dtype=dtype)
    tokenizer = transformers.AutoTokenizer.from_pretrained(session.job["base"])
    packing = settings.get("packing", True)
    examples = session.examples("train")
    at_once = settings["rows_at_once"]
    mean = sum(len(each["input_ids"]) for each in examples) / len(examples)
    per_step = session.job["batch_tokens"] // session.length if packing else round(session.job["batch_tokens"] / mean)
    accumulate = max(1, per_step // at_once)
    with tempfile.TemporaryDirectory() as folder:
        arguments = trl.SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=at_once,
            gradient_accumulation_steps=accumulate,
            num_train_epochs=session.job["epochs"],
            max_steps=session.job["max_steps"] or -1,
            learning_rate=settings["learning_rate"],
            weight_decay=0.0,
            max_length=session.length,
            packing=packing,
            bf16=settings.get("bf16", True),
            torch_compile=settings.get("compile", False),
            gradient_checkpointing=settings.get("checkpointing", False),
            train_sampling_strategy=settings.get("sampling", "random"),
            use_cpu=True,
            seed=session.job["seed"],
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        trainer = Trainer(
            session,
            model=model,
            args=arguments,
            train_dataset=Dataset.from_list(examples),
            processing_class=tokenizer,
            peft_config=adapter(session),
        )
        trainer.train()
        rows = len(trainer.train_dataset)
    whole = trainer.model.float().eval()

    def scores(tokens: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = whole(tokens).logits
        return found

    figures = {
        "trained_parameters": sum(p.numel() for p in whole.parameters() if p.requires_grad),
        "rows": rows,
        "version": trl.__version__,
    }
    session.report(rows / (at_once * accumulate), scores, figures)


if __name__ == "__main__":
    main()
