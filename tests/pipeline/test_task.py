"""The section `task:`: what it refuses, and the weights of classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import groundup
from groundup.errors import DataError, RecipeError
from groundup.pipeline.task import class_weights
from tests.end_to_end import tiny
from tests.end_to_end.test_encoder import MODEL, PHASE

SOURCE = {"name": "a", "path": "x.jsonl"}
PAIR = {**SOURCE, "pair_field": "b"}


@pytest.mark.parametrize(
    ("task", "model", "fault"),
    [
        ({"kind": "sequence", "labels": ["one"]}, {}, "one label cannot be told from others"),
        ({"kind": "sequence", "labels": ["one", "one"]}, {}, "two have the same name"),
        ({"kind": "multilabel", "loss": {"z_loss": 0.1}}, {}, "z_loss: several labels at a time have no softmax"),
        ({"kind": "number", "labels": ["a", "b"]}, {}, "labels: a task of kind number has no labels"),
        ({"kind": "number", "class_weights": "balanced"}, {}, "class_weights: a task of kind number"),
        ({"kind": "sequence", "class_weights": {"a": -1}}, {}, "weights are numbers from 0 on"),
        ({"kind": "sequence", "class_weights": "even"}, {}, "class_weights"),
        ({"kind": "span", "loss": {"label_smoothing": 0.1}, "sources": [PAIR]}, {}, "label_smoothing: a task of kind"),
        ({"kind": "span"}, {}, "kind span needs pair_field"),
        ({"kind": "token", "sources": [PAIR]}, {}, "words of single texts"),
        ({"kind": "sequence", "sources": [PAIR]}, {}, "some sources have a pair_field and others none"),
        ({"kind": "sequence", "sources": [PAIR]}, {"num_parts": 1, "next_sentence": False}, "num_parts of 2 or more"),
        ({"kind": "sequence", "sources": []}, {}, "task.sources"),
        ({"kind": "number", "sources": [{**SOURCE, "label_field": ""}]}, {}, "'a' has no label_field"),
        ({"kind": "span", "heldout": [{**PAIR, "label_field": ""}], "sources": [PAIR]}, {}, "'a' has no label_field"),
        ({"kind": "sequence", "layers": {"trained_layers": 9}}, {}, "task.layers.trained_layers: 9 is more than the m"),
        ({"kind": "sequence", "layers": {"unfreeze_every_steps": 10**6}}, {}, "learn from step 2000000 on"),
        ({"kind": "sequence", "labels": [1, 1]}, {}, "two have the same name"),
        ({"kind": "sequence", "labels": [0.5, 1]}, {}, "labels.0: should be a valid string"),
    ],
)
def test_contradictions_are_named(tmp_path: Path, task: dict[str, Any], model: dict[str, Any], fault: str) -> None:
    section = json.loads(json.dumps({"sources": [SOURCE], "heldout": [SOURCE], **PHASE, **task}))
    phase = {**PHASE, "masking": {}}
    path = tiny.write_recipe(tmp_path, model={**MODEL, **model}, pretrain=phase, instruct=None, task=section)
    with pytest.raises(RecipeError) as caught:
        groundup.load_recipe(path)
    assert fault in "\n".join([caught.value.message, *caught.value.details])


def test_labels_may_be_written_as_numbers_and_as_true_and_false(tmp_path: Path) -> None:
    for labels, names in (([2, 10, "x"], ("2", "10", "x")), ([True, False], ("true", "false")), (["yes", "no"],) * 2):
        section = {"sources": [SOURCE], "heldout": [SOURCE], **PHASE, "kind": "sequence", "labels": labels}
        changes = json.loads(json.dumps({"pretrain": {**PHASE, "masking": {}}, "task": section}))
        path = tiny.write_recipe(tmp_path, model=MODEL, instruct=None, **changes)
        task = groundup.load_recipe(path).task
        assert task is not None and task.labels == tuple(names)


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 50), min_size=2).filter(lambda c: any(c.values())))
def test_balanced_weights_are_one_on_average_and_each_class_counts_alike(counts: dict[str, int]) -> None:
    weights = class_weights("balanced", counts)
    totals = [weight * count for weight, count in zip(weights, counts.values())]
    assert sum(totals) == pytest.approx(sum(counts.values()))
    present = [total for total, count in zip(totals, counts.values()) if count]
    assert max(present) == pytest.approx(min(present))


def test_balanced_weights_of_several_labels_make_a_label_weigh_what_its_absence_does() -> None:
    counts = {"a": 3, "b": 12, "never": 0, "always": 15}
    weights = dict(zip(counts, class_weights("balanced", counts, 15)))
    assert weights["a"] * 3 == 12 and weights["b"] * 12 == 3
    assert weights["never"] == weights["always"] == 1.0
    assert class_weights({"a": 2.0, "b": 1.0}, {"a": 3, "b": 4}, 5) == (2.0, 1.0)


def test_given_weights_are_of_all_labels() -> None:
    assert class_weights({"b": 2.0, "a": 0.0}, {"a": 3, "b": 1}) == (0.0, 2.0)
    with pytest.raises(DataError, match="'c' is no label; labels are a, b"):
        class_weights({"a": 1.0, "b": 1.0, "c": 1.0}, {"a": 3, "b": 1})
    with pytest.raises(DataError, match="'b' has no weight"):
        class_weights({"a": 1.0}, {"a": 3, "b": 1})
