"""transformers' Trainer, the real one, on BertForPreTraining and BertForSequenceClassification.

Its defaults are kept but for what the job sets. Pretraining rows come in order through its sampler and collator;
labelled texts are grouped by length and padded by its own, its fastest way.
"""

from __future__ import annotations

import tempfile
from typing import Any

import torch
import transformers
from benchmarks.runners.encoder_session import Session, judged, masked_loss
from benchmarks.runners.trainers import Scheduled


class Rows(torch.utils.data.Dataset):
    """Planes of rows, or a list of examples, by number."""

    def __init__(self, planes: dict[str, torch.Tensor]) -> None:
        self.planes = planes

    def __len__(self) -> int:
        return len(self.planes["input_ids"])

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {name: plane[index] for name, plane in self.planes.items()}


class Trainer(Scheduled, transformers.Trainer):
    """The Trainer with the session's schedule."""


def arguments(session: Session, folder: str, **more: Any) -> transformers.TrainingArguments:
    """The job in the Trainer's words."""
    settings = session.settings
    return transformers.TrainingArguments(
        output_dir=folder,
        learning_rate=settings["learning_rate"],
        weight_decay=0.01,
        bf16=settings.get("bf16", False),
        torch_compile=settings.get("compile", False),
        use_cpu=True,
        seed=session.job["seed"],
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        **more,
    )


def pretrain(session: Session, folder: str) -> None:
    """Masked tokens and next sentences from the session's rows."""
    size = session.job["size"]
    config = transformers.BertConfig(
        vocab_size=size["vocab_size"],
        hidden_size=size["hidden_size"],
        num_hidden_layers=size["num_layers"],
        num_attention_heads=size["num_heads"],
        intermediate_size=size["ffn_size"],
        max_position_embeddings=size["context_length"],
        **dropouts(session),
    )
    model = transformers.BertForPreTraining(config)
    rows = session.rows("train")
    names = {"tokens": "input_ids", "parts": "token_type_ids", "targets": "labels", "follows": "next_sentence_label"}
    per_step = session.job["batch_tokens"] // size["context_length"]
    trainer = Trainer(
        session,
        model=model,
        args=arguments(
            session,
            folder,
            per_device_train_batch_size=per_step,
            max_steps=session.total_steps,
            train_sampling_strategy="sequential",
        ),
        train_dataset=Rows({theirs: rows[ours] for ours, theirs in names.items()}),
        data_collator=transformers.default_data_collator,
    )
    trainer.train()
    model.eval()

    def scores(tokens: torch.Tensor, parts: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=session.settings.get("bf16", False)):
            found: torch.Tensor = model(tokens, token_type_ids=parts).prediction_logits
        return found

    loss = masked_loss(scores, session.rows("heldout"))
    figures = {"masked_loss": loss, "parameters": model.num_parameters(), "version": transformers.__version__}
    session.report(per_step * size["context_length"], figures)


def classify(session: Session, folder: str) -> None:
    """Labels of texts, grouped by length and padded, from the pretrained weights."""
    classes = len(session.facts["labels"])
    model = transformers.BertForSequenceClassification.from_pretrained(
        session.job["start"], num_labels=classes, **dropouts(session)
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(session.folder / "tokenizer" / "tokenizer.json"), pad_token="[PAD]"
    )
    batch = session.job["batch_examples"]
    trainer = Trainer(
        session,
        model=model,
        args=arguments(
            session,
            folder,
            per_device_train_batch_size=batch,
            per_device_eval_batch_size=64,
            num_train_epochs=session.job["epochs"],
            train_sampling_strategy="group_by_length",
        ),
        train_dataset=session.examples("train"),
        data_collator=transformers.DataCollatorWithPadding(tokenizer, pad_to_multiple_of=8),
    )
    trainer.train()
    # Its sampler groups these by length too: what was right comes back in the order of the predictions.
    found = trainer.predict(session.examples("heldout"))
    figures: dict[str, Any] = judged(found.predictions.argmax(-1), found.label_ids, classes)
    seen = session.job["epochs"] * len(session.examples("train")) / (len(session.ends) - 1)
    session.report(seen, figures)


def dropouts(session: Session) -> dict[str, float]:
    """Rates of dropout in its config."""
    rate = session.settings.get("dropout", 0.0)
    return {"hidden_dropout_prob": rate, "attention_probs_dropout_prob": rate}


def main() -> None:
    """Do the job, print one JSON line."""
    session = Session()
    with tempfile.TemporaryDirectory() as folder:
        (pretrain if session.job["task"] == "pretrain" else classify)(session, folder)


if __name__ == "__main__":
    main()
