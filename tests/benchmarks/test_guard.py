"""The guard: fails on a lost sixth of the speed, not on a slow moment, and its reference does the same work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import guard
from groundup.models import DecoderConfig

TINY = DecoderConfig(
    context_length=16, num_layers=2, hidden_size=32, num_heads=2, num_kv_heads=2, ffn_size=48, qk_norm=False, tied=True
)


def test_the_reference_is_a_model_of_the_same_size() -> None:
    reference = guard.Reference(guard.MODEL)
    assert sum(p.numel() for p in reference.parameters()) == guard.MODEL.num_parameters(guard.VOCAB_SIZE)


def test_the_reference_learns() -> None:
    torch.manual_seed(0)
    step = guard.reference_step(TINY)
    tokens = torch.randint(guard.VOCAB_SIZE, (2, 16))
    losses = [step(tokens) for _ in range(12)]
    assert losses[-1] < losses[0] - 0.3


@pytest.mark.parametrize(
    ("ratio", "processor", "good"),
    [(2.0, "here", True), (1.71, "here", True), (1.69, "here", False), (0.86, "there", True), (0.84, "there", False)],
)
def test_more_than_fifteen_percent_is_too_much(ratio: float, processor: str, good: bool) -> None:
    found, words = guard.judge("kernels", ratio, {"kernels": {"here": 2.0}, "eager": {"there": 9.0}}, processor)
    assert found == good
    assert ("committed" in words) and f"{ratio:.2f} times" in words


def test_slow_moments_do_not_change_the_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    def ours(tokens: torch.Tensor) -> None: ...

    def reference(tokens: torch.Tensor) -> None: ...

    taken: list[object] = []

    def seconds_of(step: object, tokens: torch.Tensor) -> float:
        taken.append(step)
        return (1.0 if step is ours else 1.7) * (8.0 if len(taken) % 5 == 0 else 1.0)

    monkeypatch.setattr(guard, "seconds_of", seconds_of)
    found = guard.measured_ratio(ours, reference, torch.zeros(2, 50))
    assert found["ratio"] == pytest.approx(1.7)
    assert found["tokens_per_second"] == 100
    assert taken[:4] == [reference, ours, ours, reference], "neither is always the first"
    assert len(taken) == 2 * guard.PAIRS


def test_a_slow_machine_does_not_wait_for_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr(guard.time, "perf_counter", lambda: float(next(clock)))
    counted: list[int] = []
    guard.measured_ratio(lambda tokens: counted.append(1), lambda tokens: counted.append(0), torch.zeros(1, 1))
    assert 6 <= len(counted) < 2 * guard.PAIRS


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in {"MODEL": TINY, "ROWS": 2, "PAIRS": 3, "REFERENCES": tmp_path / "guard.json"}.items():
        monkeypatch.setattr(guard, name, value)
    monkeypatch.setattr(guard, "configure_threads", lambda execution: 1)
    return tmp_path / "guard.json"


def test_the_ratio_is_set_and_a_loss_is_an_exit_code(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["guard", "--way", "eager", "--set"])
    assert guard.main() == 0
    committed = json.loads(tiny.read_text())
    assert committed["eager"][guard.processor()] > 0
    monkeypatch.setattr("sys.argv", ["guard", "--way", "eager"])
    for factor, code in ((0.01, 0), (100.0, 1)):
        tiny.write_text(json.dumps({"eager": {guard.processor(): committed["eager"][guard.processor()] * factor}}))
        assert guard.main() == code
    assert "times the reference" in capsys.readouterr().out
