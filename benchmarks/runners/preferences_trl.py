"""trl's DPOTrainer (DPO, IPO), KTOTrainer and ORPOTrainer on the same pairs in the same order, fp32 on the CPU."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from benchmarks.runners.preferences_session import judged_answers, one_length
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer


def main() -> None:
    """Do the job, print one JSON line."""
    job: dict[str, Any] = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    place = Path(job["place"])
    tokenizer = AutoTokenizer.from_pretrained(place / "model")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    with tempfile.TemporaryDirectory() as output:
        began = time.monotonic()
        trainer = made(job, tokenizer, output)
        made_seconds = time.monotonic() - began
        trainer.train()
    timed = sum(trainer.step_seconds[2:])
    figures = {
        "losses": trainer.curve,
        "seconds": sum(trainer.step_seconds),
        "reference_seconds": made_seconds if job.get("precompute") else None,
        "per_second": job["batch"] * len(trainer.step_seconds[2:]) / timed,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(figures))


def recorded(base: type) -> type:
    """The trainer with every step's loss and time kept; its own log rounds them."""

    class Recorded(base):  # type: ignore[misc, valid-type]
        def __init__(self, *words: Any, **named: Any) -> None:
            self.curve: list[float] = []
            self.step_seconds: list[float] = []
            super().__init__(*words, **named)

        def compute_loss(self, *words: Any, **named: Any) -> Any:
            loss = super().compute_loss(*words, **named)
            self.curve.append(float(loss))
            return loss

        def training_step(self, *words: Any, **named: Any) -> Any:
            # From step to step, so that the optimizer's time counts as well.
            now = time.monotonic()
            if hasattr(self, "stepped_at"):
                self.step_seconds.append(now - self.stepped_at)
            self.stepped_at = now
            return super().training_step(*words, **named)

    return Recorded


def made(job: dict[str, Any], tokenizer: Any, output: str) -> Any:
    """The trainer of a rule over the job's data."""
    place, rule = Path(job["place"]), job["rule"]
    model = AutoModelForCausalLM.from_pretrained(place / "model", dtype=torch.float32)
    pairs = json.loads((place / "pairs.json").read_text(encoding="utf-8"))
    common = {
        "output_dir": output,
        "per_device_train_batch_size": job["batch"],
        "max_steps": job["steps"],
        "learning_rate": job["learning_rate"],
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "optim": "adamw_torch",
        "weight_decay": 0.0,
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "adam_epsilon": 1e-8,
        "max_grad_norm": 1.0,
        "beta": job["beta"],
        "max_length": job["context_length"],
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "train_sampling_strategy": "sequential",
        "dataloader_pin_memory": False,
    }
    if rule == "orpo":
        return orpo(job, common, model, tokenizer)
    common["precompute_ref_log_probs"] = bool(job.get("precompute"))
    if rule == "kto":
        said = [{**each, **asked(each)} for each in judged_answers(pairs)]
        data = Dataset.from_list([{key: each[key] for key in ("prompt", "completion", "label")} for each in said])
        return recorded(KTOTrainer)(
            model=model, args=KTOConfig(**common), train_dataset=data, processing_class=tokenizer
        )
    data = Dataset.from_list([asked(each) for each in pairs])
    config = DPOConfig(**common, loss_type=["ipo" if rule == "ipo" else "sigmoid"])
    return recorded(DPOTrainer)(model=model, args=config, train_dataset=data, processing_class=tokenizer)


def asked(record: dict[str, Any]) -> dict[str, Any]:
    """A record as trl's conversations."""
    answers = {key: [{"role": "assistant", "content": record[key]}] for key in ANSWERS if key in record}
    return {"prompt": [{"role": "user", "content": record["prompt"]}], **answers}


ANSWERS = ("chosen", "rejected", "completion")


def orpo(job: dict[str, Any], common: dict[str, Any], model: Any, tokenizer: Any) -> Any:
    """ORPO over ids, as its tokenization would put other tokens around texts."""
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    class OfIds(recorded(ORPOTrainer)):  # type: ignore[misc]
        def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
            found: dict[str, Any] = {"prompt_input_ids": feature["ids"]["prompt"], "prompt_attention_mask": [1]}
            for side in ("chosen", "rejected"):
                prompt, answer = feature["ids"]["prompt"], feature["ids"][side]
                found[f"{side}_input_ids"] = prompt + answer
                found[f"{side}_attention_mask"] = [1] * (len(prompt) + len(answer))
                found[f"{side}_labels"] = [-100] * len(prompt) + answer
            return found

    drawn = [each for step in range(job["steps"]) for each in one_length(step, job["batch"], model.vocab_size)]
    texts = {"prompt": "a", "chosen": "b", "rejected": "c"}
    data = Dataset.from_list([{**texts, "ids": each} for each in drawn])
    config = ORPOConfig(**common)
    return OfIds(model=model, args=config, train_dataset=data, processing_class=tokenizer)


if __name__ == "__main__":
    main()
