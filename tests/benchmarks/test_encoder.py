"""The encoder comparison's data and arithmetic. No peer is needed."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.runners.encoder_session import IGNORE, Session, judged, masked_loss
from torch.nn import functional

from benchmarks import encoder, encoder_data
from groundup.tokens import PackedExamples, Tokenizer

WORDS = "the river rose and all who lived by it went up to the hill"


def texts(count: int) -> list[str]:
    random = np.random.default_rng(1)
    return [" ".join(random.choice(WORDS.split(" "), 120)) for _ in range(count)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "data"
    labelled = {"train": [("up the hill", "hill"), ("by the river", "river")] * 5, "heldout": [("the river", "river")]}
    encoder_data.prepare(texts(60), labelled, 320, 32, 50, folder)
    return folder


def test_rows_are_framed_pairs_with_targets_where_something_is_hidden(data: Path) -> None:
    tokenizer = Tokenizer.load(data / "tokenizer")
    ids = tokenizer.need_encoder_ids()
    tokens, targets, parts = (np.load(data / f"train-{name}.npy") for name in ("tokens", "targets", "parts"))
    assert tokens.shape == targets.shape == parts.shape == (50, 32)
    assert (tokens[:, 0] == ids.cls).all() and (tokens[:, -1] == ids.sep).all()
    assert ((tokens == ids.sep).sum(1) == 2).all()
    assert (parts[np.arange(50), (tokens == ids.sep).argmax(1)] == 0).all() and (parts[:, -1] == 1).all()
    assert 0.08 < (targets != IGNORE).mean() <= 0.15
    assert (targets[(tokens == ids.mask)] != IGNORE).all()
    assert set(np.load(data / "train-follows.npy").tolist()) == {0, 1}


def test_both_tools_see_the_same_tokens_of_a_text(data: Path) -> None:
    facts = json.loads((data / "facts.json").read_text())
    packed = PackedExamples(data / "task" / "train", "train", 32, 320)
    plain = json.loads((data / "task" / "train.json").read_text())
    assert facts["labels"] == packed.labels == ["hill", "river"]
    seen = {}
    for index in range(packed.num_rows):
        row = packed.row(index)
        for place, number, *_ in packed.places(index):
            seen[number] = row.tokens[place:][row.segments[place:] == row.segments[place]].tolist()
            assert row.targets[place] == plain[number]["labels"]
    assert [seen[number] for number in range(10)] == [each["input_ids"] for each in plain]


def test_the_schedule_rises_and_ends_near_zero(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = {"settings": {}, "data": str(data), "steps": 100, "threads": 1, "seed": 1}
    monkeypatch.setattr(sys, "argv", ["", json.dumps(job)])
    session = Session()
    factors = [session.factor(step) for step in range(100)]
    assert factors[0] < factors[3] < max(factors) <= 1.0 + 1e-9
    assert 0 < factors[-1] < 0.02


def test_the_loss_is_that_of_the_hidden_tokens() -> None:
    scores = torch.randn(3, 8, 20, generator=torch.Generator().manual_seed(1))
    targets = torch.full((3, 8), IGNORE)
    targets[0, 2], targets[2, 5] = 7, 11
    rows = {"tokens": torch.zeros(3, 8, dtype=torch.long), "parts": torch.zeros(3, 8), "targets": targets}
    wanted = functional.cross_entropy(torch.stack([scores[0, 2], scores[2, 5]]), torch.tensor([7, 11]))
    assert masked_loss(lambda tokens, parts: scores, rows) == pytest.approx(float(wanted), rel=1e-5)


def test_f1_is_the_mean_over_classes() -> None:
    found = judged([0, 0, 1, 1, 1], [0, 1, 1, 1, 2], 3)
    assert found == {"accuracy": pytest.approx(0.6), "macro_f1": pytest.approx((2 / 3 + 2 / 3 + 0) / 3)}


def test_labelled_files_are_split_or_taken_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "some.tsv.gz"
    file.write_bytes(gzip.compress("".join(f"text {i}\twith a tab\t{i % 2}\n" for i in range(20)).encode()))
    found = encoder_data.read_labelled(file, None)
    assert (len(found["train"]), len(found["heldout"])) == (18, 2)
    assert found["heldout"][1] == ("text 10\twith a tab", "0")
    assert encoder_data.read_labelled(file, file)["train"] == encoder_data.read_labelled(file, file)["heldout"]


def test_passages_have_no_names_within_sentences() -> None:
    text = "Mr. Knightley came. He saw Emma there, and I was glad of it " + "and went on to speak " * 20
    found = list(encoder_data.passages(text))
    assert "Knightley" not in found[0] and "Emma" not in found[0]
    assert found[0].startswith("Mr. came. He saw there, and I was glad")
    assert all(15 <= len(passage.split()) <= 60 for passage in found)


def run(speed: float, loss: float) -> dict[str, Any]:
    return {"per_second": speed, "masked_loss": loss, "foreign_cores": 0.0}


def test_ours_is_set_against_the_fastest_and_the_best() -> None:
    runs = {
        encoder.OURS: [run(30.0, 2.0)],
        encoder.RECIPE: [run(20.0, 1.0)],
        "transformers: a": [run(10.0, 2.1)],
        "transformers: b": [run(15.0, 2.4), {"failed": "x", "foreign_cores": 0}],
    }
    found = encoder.compared(runs, "masked_loss", -1)
    assert found["to_fastest_peer"]["median"] == 2.0
    assert found["gain_to_best_peer"]["median"] == pytest.approx(0.1)


def test_half_the_tokens_count_where_the_loss_is_reached() -> None:
    def timed(seconds: float, loss: float) -> dict[str, Any]:
        return {**run(1.0, loss), "train_seconds": seconds}

    runs = {
        encoder.HALF: [timed(10.0, 2.0), timed(10.0, 3.0), {"failed": "x"}],
        "transformers: a": [timed(40.0, 2.5), timed(30.0, 2.5), timed(1.0, 1.0)],
    }
    found = encoder.sooner(runs, "transformers: a")
    assert (found["times_sooner"]["median"], found["as_good"], found["runs"]) == (3.5, 1, 2)
