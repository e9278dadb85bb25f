"""The comparison's arithmetic: sizes, corpus, bits per byte, schedules, ratios. No peer is needed."""

import gzip
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.runners import session
from benchmarks.sizes import PRESETS, parse_size
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import corpus, harness, quality, throughput
from groundup.models import DecoderConfig

sizes = st.builds(
    lambda v, h, d, n, f, t: f"V{v}-d{2 * h * d}-L{n}-H{h}-ff{f}-T{t}",
    *[st.integers(1, 50)] * 6,
)


@given(sizes)
def test_a_size_reads_back_as_its_word(word: str) -> None:
    assert parse_size(word).word == word


def test_a_preset_is_changed_by_what_follows() -> None:
    assert parse_size("10M-V32768-T1024") == replace(PRESETS["10M"], vocab_size=32768, context_length=1024)


@pytest.mark.parametrize("word", ["11M", "10M-x3", "V512-d64", "10M-H7", "10M-L0", ""])
def test_a_size_that_makes_no_sense_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(word)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_parameters_they_are_named_for(name: str) -> None:
    size = PRESETS[name]
    wanted = 1e6 * float(name.removesuffix("M"))
    assert size.matmul_parameters() == pytest.approx(wanted, rel=0.05)
    config = DecoderConfig(
        **{key: value for key, value in size.as_dict().items() if key != "vocab_size"},
        num_kv_heads=size.num_heads,
    )
    flops = 6 * size.matmul_parameters() + size.attention_flops_per_token()
    assert config.flops_per_token(size.vocab_size) == flops


def test_equal_scores_cost_the_logarithm_of_the_vocabulary() -> None:
    vocab, rows = 16, np.random.default_rng(1).integers(0, 15, (7, 33))
    n_bytes = np.array([2] * 15 + [0])
    value = session.bits_per_byte(lambda tokens: torch.zeros(*tokens.shape, vocab), rows, n_bytes)
    assert value == pytest.approx(math.log2(16) / 2)


def test_control_tokens_count_neither_as_nats_nor_as_bytes() -> None:
    rows = np.array([[1, 0, 1, 0, 2]])
    n_bytes = np.array([3, 1, 0])

    def logits(tokens: torch.Tensor) -> torch.Tensor:
        scores = torch.zeros(*tokens.shape, 3)
        scores[..., 2] = -50.0  # the control token is all but excluded: it would cost 50 nats
        return scores

    value = session.bits_per_byte(logits, rows, n_bytes)
    assert value == pytest.approx(3 * 1.0 / 7, rel=1e-6)


@given(st.integers(1, 40))
def test_bits_per_byte_do_not_depend_on_the_batch(rows: int) -> None:
    random = np.random.default_rng(rows)
    tokens, n_bytes = random.integers(0, 8, (rows, 5)), random.integers(1, 4, 8)
    table = torch.from_numpy(random.normal(size=(8, 8)))

    def logits(some: torch.Tensor) -> torch.Tensor:
        return table[some]

    whole = session.bits_per_byte(logits, tokens, n_bytes)
    losses = -torch.log_softmax(table, 1).numpy()[tokens[:, :-1], tokens[:, 1:]]
    assert whole == pytest.approx(losses.sum() / math.log(2) / n_bytes[tokens[:, 1:]].sum(), rel=1e-5)


@given(st.integers(1, 9), st.integers(30, 300), st.integers(0, 5))
def test_rows_of_an_epoch_are_different_pieces_of_the_text(context: int, length: int, epoch: int) -> None:
    data = session.TextRows(np.arange(length), context, seed=1)
    first = epoch * data.rows_per_epoch
    rows = [data.row(first + i) for i in range(data.rows_per_epoch)]
    starts = [int(row[0]) for row in rows]
    assert len(set(starts)) == len(starts)
    assert all(row.tolist() == list(range(s, s + context + 1)) for row, s in zip(rows, starts))
    again = session.TextRows(np.arange(length), context, seed=1)
    assert again.row(first).tolist() == rows[0].tolist()


def test_heldout_rows_are_spread_over_the_text_and_do_not_overlap() -> None:
    rows = session.heldout_rows(np.arange(1001), 10, 7)
    assert rows.shape == (7, 11)
    assert rows[0, 0] == 0
    assert rows[-1, -1] == 1000
    assert np.all(np.diff(rows[:, 0]) >= 10)


@pytest.mark.parametrize("kind", ["cosine", "linear", "wsd"])
def test_schedules_fall_from_one_to_their_end(kind: str) -> None:
    schedule = {"kind": kind, "final_fraction": 0.1, "decay_fraction": 0.4}
    values = [session.decay(schedule, step / 50) for step in range(51)]
    assert values[0] == 1.0
    assert values[-1] == pytest.approx(0.1)
    assert values == sorted(values, reverse=True)
    assert (values[29] == 1.0) == (kind == "wsd")


def test_validations_are_off_the_clock() -> None:
    clock = session.Clock()
    before = clock.seconds()
    with clock.stopped():
        session.time.sleep(0.2)
    assert 0 < before <= clock.seconds() < before + 0.15


def test_memory_peak_is_seen() -> None:
    before = session.peak_memory_bytes()
    block = np.ones(30_000_000)
    assert session.peak_memory_bytes() >= max(before, block.nbytes)


def curve(*points: tuple[float, float]) -> list[dict[str, float]]:
    return [{"wall_seconds": s, "train_seconds": s / 2, "tokens": 1, "bits_per_byte": b} for s, b in points]


def test_time_to_a_value_lies_between_the_points_around_it() -> None:
    found = curve((10, 3.0), (40, 2.0), (160, 1.0))
    assert quality.seconds_to_reach(found, 2.5, "wall_seconds") == pytest.approx(20)
    assert quality.seconds_to_reach(found, 2.0, "wall_seconds") == pytest.approx(40)
    assert quality.seconds_to_reach(found, 2.5, "train_seconds") == pytest.approx(10)
    assert quality.seconds_to_reach(found, 3.5, "wall_seconds") == 10
    assert quality.seconds_to_reach(found, 0.5, "wall_seconds") is None


def test_speed_up_is_the_peers_seconds_over_ours_seed_by_seed() -> None:
    def run(seed: int, budget: float, points: list[dict[str, float]]) -> dict[str, Any]:
        return {"seed": seed, "budget_seconds": budget, "curve": points, "bits_per_byte": points[-1]["bits_per_byte"]}

    peer = [run(1, 100, curve((50, 3.0), (100, 2.0))), run(2, 100, curve((50, 3.0), (100, 2.0)))]
    ours = [run(1, 100, curve((20, 2.0), (100, 1.0))), run(1, 30, curve((10, 2.0))), run(2, 100, curve((50, 2.0)))]
    failed = {"seed": 2, "budget_seconds": 100, "failed": "why"}
    found = quality.compare({quality.OURS: [*ours, failed], "peer: x": [*peer, failed]}, [100.0])
    lead = found["1.66667 min"]["peer: x"]
    assert lead["speed_up"] == {"median": 6.0, "low": 2.0, "high": 10.0, "n": 2}
    assert lead["target_bits_per_byte"]["median"] == 2.0


def test_points_end_at_the_budget() -> None:
    found = quality.points(100.0, 5)
    assert len(found) == 5
    assert found[-1] == 100.0
    assert found == sorted(found)


def test_a_grid_is_every_combination_and_reaches_inner_settings() -> None:
    tried = quality.grid({"a": [1, 2], "overrides.b.c": [3]})
    assert tried == [{"a": 1, "overrides.b.c": 3}, {"a": 2, "overrides.b.c": 3}]
    base = {"a": 0, "overrides": {"d": 1}}
    assert quality.merged(base, tried[1]) == {"a": 2, "overrides": {"d": 1, "b.c": 3}}
    assert base == {"a": 0, "overrides": {"d": 1}}


def runs(rates: dict[str, Sequence[float | None]], name: str) -> dict[str, list[dict[str, Any]]]:
    return {
        label: [{"failed": "why"} if rate is None else {name: rate, "foreign_cores": 0.0} for rate in values]
        for label, values in rates.items()
    }


def test_the_best_peer_is_the_fastest_and_for_memory_the_leanest() -> None:
    rates = {
        throughput.OURS: [20.0, 30.0],
        "a: x": [10.0, 10.0],
        "b: y": [5.0, None],
        throughput.MUON_PEER: [99.0, 99.0],
    }
    fast = throughput.compare(runs(rates, "tokens_per_second"), "tokens_per_second")
    assert fast["best_peer"] == "a: x"
    assert fast["to_best_peer"] == {"median": 2.5, "low": 2.0, "high": 3.0, "n": 2}
    lean = throughput.compare(runs(rates, "peak_memory_bytes"), "peak_memory_bytes")
    assert lean["best_peer"] == "b: y"
    assert lean["to_best_peer"]["median"] == 0.25
    assert lean["to_best_peer"]["n"] == 1


def test_nothing_is_compared_when_every_peer_failed() -> None:
    found = throughput.compare(runs({throughput.OURS: [1.0], "a: x": [None]}, "tokens_per_second"), "tokens_per_second")
    assert found["best_peer"] is None
    assert found["to_best_peer"] is None


def test_failed_and_disturbed_runs_are_said() -> None:
    found = harness.figures([{"x": 2, "foreign_cores": 0.9}, {"x": 4, "foreign_cores": 0.0}, {"failed": "why"}], ["x"])
    assert found["x"] == {"median": 3, "low": 2, "high": 4, "n": 2}
    assert found["disturbed_runs"] == 1
    assert found["failed"] == ["why"]


def test_text_is_read_whole_whatever_its_form(tmp_path: Path) -> None:
    paragraphs = [f"Paragraph {i} " + "word " * 300 for i in range(30)]
    (tmp_path / "a.txt").write_text("\r\n\r\n".join(paragraphs))
    records = [{"text": "one"}, {"name": "two", "inner": {"Area": {"text": "three"}, "parts": ["four"]}}]
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, records)).encode()))
    (tmp_path / "c.py").write_text("not text")
    first, second = corpus.corpus_files([str(tmp_path)])
    assert "\n\n".join(corpus.documents(first)).split("\n\n") == paragraphs
    assert max(map(len, corpus.documents(first))) < 2 * corpus.DOCUMENT_CHARACTERS
    assert list(corpus.documents(second)) == ["one", "name: two\nArea: three\nparts: four"]
    with pytest.raises(SystemExit):
        corpus.corpus_files([str(tmp_path / "c.py")])


def test_a_corpus_is_split_without_overlap_and_made_once(tmp_path: Path) -> None:
    texts = [f"Document {i}. " + f"word{i % 7} " * 50 for i in range(200)]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    folder = corpus.prepare([str(tmp_path / "a.jsonl")], 300, 0.2, tmp_path)
    facts = json.loads((folder / "facts.json").read_text())
    lengths = np.load(folder / "token_bytes.npy")
    for name in ("train", "heldout"):
        tokens = np.fromfile(folder / f"{name}.bin", facts["dtype"])
        assert len(tokens) == facts[name]["tokens"]
        assert lengths[tokens].sum() == facts[name]["bytes"]
        assert (tokens == facts["end_of_text_id"]).sum() == facts[name]["documents"]
    assert facts["train"]["documents"] + facts["heldout"]["documents"] == 200
    assert 10 < facts["heldout"]["documents"] < 80
    made = (folder / "facts.json").stat().st_mtime_ns
    assert corpus.prepare([str(tmp_path / "a.jsonl")], 300, 0.2, tmp_path) == folder
    assert (folder / "facts.json").stat().st_mtime_ns == made
