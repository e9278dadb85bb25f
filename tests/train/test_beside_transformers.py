"""Instruction tuning step by step: transformers' model under torch's AdamW, each conversation alone, beside ours."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from groundup.export.source import open_source
from groundup.optim import AdamWConfig
from groundup.tokens import IGNORE, Batch
from groundup.train.settings import TrainingConfig
from groundup.train.state import build_state
from groundup.train.step import Objectives, train_step
from tests.train import toys

os.environ["HF_HUB_OFFLINE"] = "1"
transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra 'hf')")
transformers.logging.disable_progress_bar()
VOCAB, LENGTH, ROWS, STEPS = 47, 24, 4, 6
RATES = [1.0, 0.5, 0.8, 0.3, 0.2, 0.1]
SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 8}
OPTIMIZER = AdamWConfig(learning_rate=0.01, beta2=0.999, weight_decay=0.0)
Conversation = tuple[np.ndarray, np.ndarray]
"""Inputs and targets."""


def conversations(random: np.random.Generator) -> list[Conversation]:
    """One row's: together as long as the row, a random part of each is a prompt."""
    cuts = np.sort(random.choice(np.arange(3, LENGTH - 2, 3), 2, replace=False))
    found = []
    for length in np.diff([0, *cuts, LENGTH]):
        ids = random.integers(0, VOCAB, length + 1)
        targets = np.where(np.arange(length) < random.integers(0, length), IGNORE, ids[1:])
        found.append((ids[:-1], targets))
    return found


def packed(rows: list[list[Conversation]]) -> Batch:
    """All rows, conversations side by side."""

    def tensor(parts: list[list[np.ndarray]]) -> torch.Tensor:
        return torch.from_numpy(np.stack([np.concatenate(row) for row in parts]))

    return Batch(
        tensor([[ids for ids, _ in row] for row in rows]),
        tensor([[targets for _, targets in row] for row in rows]),
        tensor([[np.full(len(ids), number) for number, (ids, _) in enumerate(row)] for row in rows]).int(),
        tensor([[np.arange(len(ids)) for ids, _ in row] for row in rows]).int(),
        torch.zeros(len(rows), dtype=torch.int64),
    )


def test_packed_steps_are_those_of_transformers_with_each_conversation_alone(tmp_path: Path) -> None:
    settings = transformers.AutoConfig.for_model(
        "qwen3", **SIZES, vocab_size=VOCAB, num_key_value_heads=1, max_position_embeddings=LENGTH, pad_token_id=None
    )
    torch.manual_seed(1)
    theirs = transformers.AutoModelForCausalLM.from_config(settings, dtype=torch.float32)
    theirs.save_pretrained(tmp_path)
    source = open_source(tmp_path)
    training = TrainingConfig(
        tokens=STEPS * ROWS * LENGTH, global_batch_tokens=ROWS * LENGTH, precision="fp32", optimizer=OPTIMIZER
    )
    start = {name: source[name] for name in source}
    ours = build_state(source.config, VOCAB, training, toys.EAGER, 1, device=torch.device("cpu"), start=start)
    objectives = Objectives(("answers",), (0,), ("instruct",), (1.0,))
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.0)
    random = np.random.default_rng(1)
    for rate in RATES:
        rows = [conversations(random) for _ in range(ROWS)]
        result = train_step(ours, [packed(rows)], objectives, learning_rate_factor=rate, max_grad_norm=1.0)
        sums = torch.zeros(())
        for ids, targets in (each for row in rows for each in row):
            scores = theirs(torch.from_numpy(ids)[None], use_cache=False).logits[0]
            sums = sums + functional.cross_entropy(scores, torch.from_numpy(targets), reduction="sum")
        loss = sums / result.targets
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = 0.01 * rate
        optimizer.step()
        optimizer.zero_grad()
        torch.testing.assert_close(result.loss, loss.detach(), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(result.grad_norm, norm, rtol=1e-3, atol=1e-4)
