"""Held-out conversations as rows: bits per answer byte and exact match, conversation by conversation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from groundup.evaluate import EvaluateConfig, Subject, answer_matches, answer_sums
from groundup.evaluate.answers import measure_answers
from groundup.models import Decoder
from groundup.tokens import Conversation, PackedConversations, Tokenizer, Turn, encode_conversation, write_conversations
from tests.evaluate.conftest import CONTEXT_LENGTH


@dataclass
class Talk:
    turns: list[Turn]


TALKS = [
    Talk([Turn("user", "the cat?"), Turn("assistant", "on the mat")]),
    Talk([Turn("user", "Zürich?"), Turn("assistant", "café")]),
    Talk([Turn("user", "1815"), Turn("assistant", "Emma"), Turn("user", "x"), Turn("assistant", "Paris, 北京")]),
    Talk([Turn("user", "What is the capital of France?"), Turn("assistant", "Paris")]),
]


@pytest.fixture
def rows(tokenizer: Tokenizer, tmp_path: Path) -> PackedConversations:
    write_conversations(TALKS, tokenizer, tmp_path / "talks", CONTEXT_LENGTH)
    return PackedConversations(tmp_path / "talks", "talks", CONTEXT_LENGTH)


@torch.no_grad()
def slow(model: Decoder, tokenizer: Tokenizer, talk: Talk) -> tuple[float, float]:
    encoded = encode_conversation(tokenizer, talk.turns)
    logits = model(torch.tensor([encoded.ids[:-1]]))[0]
    nats = functional.cross_entropy(logits, torch.tensor(encoded.ids[1:]), reduction="none")
    bits = float(nats[torch.tensor(encoded.is_target[1:])].sum()) / math.log(2)
    said = [token for token, learnt in zip(encoded.ids, encoded.is_target) if learnt and token != tokenizer.turn_end_id]
    return bits, float(len(tokenizer.decode_bytes(said)))


def test_sums_are_those_of_each_conversation_by_itself(
    model: Decoder, tokenizer: Tokenizer, rows: PackedConversations
) -> None:
    assert rows.num_rows < len(TALKS), "some share a row"
    found = answer_sums(model, rows, tokenizer)
    expected = [slow(model, tokenizer, talk) for talk in TALKS]
    assert sorted(found) == [pytest.approx(pair, rel=1e-4) for pair in sorted(expected)]


def test_micro_batches_change_nothing(
    model: Decoder, tokenizer: Tokenizer, rows: PackedConversations, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = answer_sums(model, rows, tokenizer)
    monkeypatch.setattr("groundup.evaluate.packed_answers.BATCH_TOKENS", 1)
    assert answer_sums(model, rows, tokenizer) == [pytest.approx(pair, rel=1e-5) for pair in whole]


def test_matches_are_those_of_asking_the_conversations(model: Decoder, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """The model's own answers are taken as the expected ones, so that some are right."""
    config = EvaluateConfig(max_new_tokens=6)
    asked = [Conversation(str(i), tuple(talk.turns), "q") for i, talk in enumerate(TALKS)]
    said = measure_answers(Subject(model, tokenizer, {}, asked), config).samples["answers"]
    own = [
        Talk([*talk.turns[:-1], Turn("assistant", answer["prediction"].strip() or "-")])
        for talk, answer in zip(TALKS, said)
    ]
    mixed = [own[0], TALKS[1], own[2], TALKS[3]]
    expected = measure_answers(
        Subject(model, tokenizer, {}, [Conversation(str(i), tuple(t.turns), "q") for i, t in enumerate(mixed)]), config
    ).metrics["exact_match"]
    write_conversations(mixed, tokenizer, tmp_path / "mixed", CONTEXT_LENGTH)
    rows = PackedConversations(tmp_path / "mixed", "mixed", CONTEXT_LENGTH)
    found = answer_matches(model, rows, tokenizer, 6, 8)
    assert len(found) == len(mixed) and {weight for _, weight in found} == {1.0}
    assert sum(right for right, _ in found) / len(found) == expected.value
