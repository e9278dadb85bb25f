"""transformers' Trainer, the real one, on a LlamaForCausalLM: its loop, its AdamW, its data loader.

Its defaults are kept (fused AdamW, clipping at 1.0, fp32 unless the settings say `bf16`) but for what the job sets:
batch, learning rate, schedule, seed. Rows come through an iterable dataset; a callback tells the session of every step;
the schedule is a LambdaLR that asks the session, as all tools do.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import torch
import transformers
from benchmarks.runners.session import Session
from torch.optim.lr_scheduler import LambdaLR

MANY_STEPS = 10**7


class Rows(torch.utils.data.IterableDataset):
    """Rows of `time` tokens without end; the model shifts its labels itself."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for index in itertools.count():
            row = torch.from_numpy(self.session.data.row(index)[:-1])
            yield {"input_ids": row, "labels": row}


class Steps(transformers.TrainerCallback):
    """Tells the session of every step, and the Trainer when the budget is gone."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        bf16 = self.session.settings.get("bf16", False)

        def logits(tokens: torch.Tensor) -> torch.Tensor:
            original = getattr(model, "_orig_mod", model)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                return original(input_ids=tokens, use_cache=False).logits

        self.session.begin(logits)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.session.after_step()
        control.should_training_stop = self.session.finished


class Trainer(transformers.Trainer):
    """The Trainer with the session's schedule."""

    def __init__(self, session: Session, **options: Any) -> None:
        super().__init__(**options)
        self.session = session

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """A schedule by the session's clock instead of by steps."""
        self.lr_scheduler = LambdaLR(optimizer or self.optimizer, lambda _: self.session.factor())
        return self.lr_scheduler


def llama(session: Session) -> transformers.LlamaForCausalLM:
    """A Llama of the job's size from random numbers."""
    size = session.size
    config = transformers.LlamaConfig(
        vocab_size=size.vocab_size,
        hidden_size=size.hidden_size,
        num_hidden_layers=size.num_layers,
        num_attention_heads=size.num_heads,
        num_key_value_heads=size.num_heads,
        intermediate_size=size.ffn_size,
        max_position_embeddings=size.context_length,
        tie_word_embeddings=session.settings.get("tied", True),
        use_cache=False,
    )
    return transformers.LlamaForCausalLM(config)


def arguments(session: Session, folder: str) -> transformers.TrainingArguments:
    """The job in the Trainer's words."""
    settings = session.settings
    return transformers.TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=session.rows,
        max_steps=MANY_STEPS,
        learning_rate=settings.get("learning_rate", 1e-3),
        weight_decay=settings.get("weight_decay", 0.0),
        adam_beta2=settings.get("beta2", 0.999),
        bf16=settings.get("bf16", False),
        torch_compile=settings.get("compile", False),
        use_cpu=True,
        seed=session.job["seed"],
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )


def main() -> None:
    """Read the job, let the Trainer train, print one JSON line."""
    session = Session(json.loads(sys.argv[1]))
    session.schedule = session.settings.get("schedule", session.schedule)
    transformers.set_seed(session.job["seed"])
    model = llama(session)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            session,
            model=model,
            args=arguments(session, folder),
            train_dataset=Rows(session),
            callbacks=[Steps(session)],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    facts = {
        "parameters": model.num_parameters(),
        "matmul_parameters": session.size.matmul_parameters(),
        "version": transformers.__version__,
    }
    print(json.dumps(session.report(facts)), flush=True)


if __name__ == "__main__":
    main()
