"""Many sequences at a time: any lengths, any ends, any room, always the tokens that each gets alone."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.inference import GenerateConfig, generate_batch, sequences, serving
from groundup.inference.sequences import Running, Sampling, run_sequences
from groundup.kernels import build
from groundup.models import Decoder

GREEDY = Sampling(temperature=0.0, top_k=0, top_p=1.0, repetition_penalty=1.0)
needs_kernels = pytest.mark.skipif(build.obstacle("decode") is not None, reason=f"{build.obstacle('decode')}")


def prompts(vocab_size: int, count: int, longest: int = 40) -> list[list[int]]:
    pick = random.Random(3)
    return [[pick.randrange(vocab_size) for _ in range(pick.randrange(1, longest))] for _ in range(count)]


@needs_kernels
@settings(max_examples=20)
@given(
    max_running=st.integers(1, 9),
    call_rows=st.integers(1, 40),
    slots=st.integers(1, 9),
    dtype=st.sampled_from(["bf16", "fp32"]),
)
def test_division_into_calls_and_slots_changes_no_token(
    model: Decoder, max_running: int, call_rows: int, slots: int, dtype: str
) -> None:
    asked = prompts(model.vocab_size, 9)
    stop = set(range(0, model.vocab_size, 7))
    config = GenerateConfig(max_new_tokens=12, temperature=0.8, seed=4)
    before = model.compute_dtype
    model.set_compute_dtype(torch.bfloat16 if dtype == "bf16" else torch.float32)
    try:
        alone = generate_batch(model, asked, config, stop, batch_rows=1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sequences, "CALL_ROWS", call_rows)
            patch.setattr(sequences, "CACHE_LIMIT_BYTES", slots * 30_000)
            assert generate_batch(model, asked, config, stop, batch_rows=max_running) == alone
    finally:
        model.set_compute_dtype(before)
    assert len({len(answer) for answer in alone}) > 2


@pytest.mark.parametrize("kernels", [True, False])
def test_each_sequence_has_room_of_its_own(model: Decoder, monkeypatch: pytest.MonkeyPatch, kernels: bool) -> None:
    if not kernels:
        monkeypatch.setattr(serving, "_packed", lambda model: None)
    asked = prompts(model.vocab_size, 12)
    running = [Running(i, list(p), i % 5, torch.Generator()) for i, p in enumerate(asked)]
    found: dict[int, list[int]] = {i: [] for i in range(12)}
    for sequence, token in run_sequences(model, running, GREEDY, max_running=5):
        found[sequence.index].append(token)
    assert [len(found[i]) for i in range(12)] == [i % 5 for i in range(12)]
    for sequence, prompt in zip(running, asked):
        assert sequence.tokens[len(prompt) :][: sequence.index % 5] == found[sequence.index]


@needs_kernels
def test_both_ways_say_the_same_in_float32(model: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, config = prompts(model.vocab_size, 20), GenerateConfig(max_new_tokens=20)
    fast = generate_batch(model, asked, config, {5, 50})
    monkeypatch.setattr(serving, "_packed", lambda model: None)
    assert generate_batch(model, asked, config, {5, 50}) == fast
