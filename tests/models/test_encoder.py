"""The encoder: its own facts, its losses, what a position sees, and transformers' BERT with the same weights."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from groundup import config
from groundup.errors import ModelFileError, RecipeError
from groundup.models import (
    IGNORE,
    SET_BITS,
    Encoder,
    EncoderConfig,
    LabellerConfig,
    LossConfig,
    RowContext,
    WeightedLossConfig,
    build_model,
    from_huggingface,
    huggingface_config,
    to_huggingface,
)
from groundup.models.encoder_heads import (
    first_targets,
    guarded,
    multilabel_losses,
    number_losses,
    numbers_as_targets,
    span_losses,
)
from groundup.models.encoder_layers import states_at
from groundup.models.noise import row_keys
from groundup.tokens import example_encoding

VOCAB_SIZE = 50


def described(**changes: Any) -> EncoderConfig:
    values = {
        "kind": "encoder", "context_length": 20, "num_layers": 2, "hidden_size": 24, "num_heads": 3, "ffn_size": 40,
        "next_sentence": True, "predicted_share": 0.3,
    }  # fmt: skip
    return config.build(EncoderConfig, {**values, **changes}, "test")


def made(**changes: Any) -> Encoder:
    model = build_model(described(**changes), VOCAB_SIZE)
    model.initialise(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Biases that differ from 0 and gains from 1, or swapped ones would not be seen.
            if model.role(name) == "vector":
                parameter.add_(torch.linspace(-0.3, 0.3, parameter.numel()).view_as(parameter))
    return model.eval()


def some_tokens(rows: int = 3, time: int = 20) -> torch.Tensor:
    return torch.randint(0, VOCAB_SIZE, (rows, time), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("changes", [{}, {"tied": False}, {"next_sentence": False, "num_layers": 1}])
def test_parameters_are_counted(changes: dict[str, Any]) -> None:
    model = made(**changes)
    assert model.config.num_parameters(VOCAB_SIZE) == sum(p.numel() for p in model.parameters())
    assert "layers.0.ffn.up.weight" in model.matrix_parameters()
    assert not model.matrix_parameters() & {"embedding.weight", "positions.weight", "parts.weight"}


def test_losses_are_cross_entropy_of_the_targets() -> None:
    model, tokens = made(), some_tokens()
    targets = torch.full((3, 2, 20), IGNORE)
    targets[:, 0, 4:9] = tokens[:, 4:9]
    targets[1:, 1, 0] = torch.tensor([0, 1])
    with torch.no_grad():
        sums, counts = model(tokens, targets=targets)
        scores, pairs = model(tokens), model.pair_scores(tokens)
    for row in range(3):
        assert sums[row, 0] == pytest.approx(
            float(functional.cross_entropy(scores[row, 4:9], tokens[row, 4:9], reduction="sum")), rel=1e-4
        )
    assert sums[2, 1] == pytest.approx(float(-pairs[2, 0].log_softmax(-1)[1]), rel=1e-5)
    assert counts.tolist() == [[5, 0], [5, 1], [5, 1]]


def test_known_weights_give_the_same_gradients() -> None:
    model, tokens = made(), some_tokens()
    targets = torch.full((3, 2, 20), IGNORE)
    targets[:, 0, 3:7], targets[:, 1, 0] = tokens[:, 3:7], 1
    weights = torch.tensor([[0.5, 2.0], [0.25, 1.0], [1.0, 0.5]])
    gradients = []
    for known in (weights, None):
        model.zero_grad()
        sums, _ = model(tokens, targets=targets, row_weights=known)
        (sums * weights).sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(*gradients, strict=True))


def test_more_targets_than_places_cannot_pass_unseen() -> None:
    model, tokens = made(next_sentence=False), some_tokens()
    sums, _ = model(tokens, targets=tokens)
    assert sums.isnan().all()


def test_packed_texts_do_not_see_each_other() -> None:
    model, tokens = made(), some_tokens(1)
    segments = torch.tensor([[0] * 8 + [1] * 12])
    positions = torch.cat([torch.arange(8), torch.arange(12)])[None]
    together = model(tokens, segments=segments, positions=positions)
    assert torch.allclose(together[:, :8], model(tokens[:, :8]), atol=1e-5)
    assert torch.allclose(together[:, 8:], model(tokens[:, 8:]), atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [{}, {"tied": False}, {"next_sentence": False, "num_heads": 1, "hidden_size": 10, "num_parts": 3}],
)
def test_transformers_gives_the_same_scores(changes: dict[str, Any]) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    transformers = pytest.importorskip("transformers")
    model, tokens = made(**changes), some_tokens()
    values = huggingface_config(model.config, VOCAB_SIZE)
    theirs = getattr(transformers, values["architectures"][0])(transformers.BertConfig(**values)).eval()
    state = to_huggingface(model.config, model.state_dict())
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.startswith("cls.predictions.decoder") for name in missing), "only copies of tied tensors"
    theirs.tie_weights()
    parts = torch.randint(0, model.config.num_parts, tokens.shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found = theirs(tokens, token_type_ids=parts)
        ours = model(tokens, parts=parts)
    logits = found.prediction_logits if model.config.next_sentence else found.logits
    assert (logits - ours).abs().max() <= 1e-5
    if model.config.next_sentence:
        pairs = model.pair_scores(tokens, parts=parts)[:, 0]
        assert (found.seq_relationship_logits - pairs).abs().max() <= 1e-5
    back = from_huggingface(model.config, VOCAB_SIZE, theirs.state_dict())
    assert all(torch.equal(back[name], tensor) for name, tensor in model.state_dict().items())


def test_tensors_that_do_not_fit_are_named() -> None:
    model = made()
    tensors = to_huggingface(model.config, model.state_dict())
    with pytest.raises(ModelFileError, match=r"pooler.dense.bias' is missing"):
        from_huggingface(model.config, VOCAB_SIZE, {k: v for k, v in tensors.items() if k != "bert.pooler.dense.bias"})
    with pytest.raises(ModelFileError, match=r"'bert.other' is not known"):
        from_huggingface(model.config, VOCAB_SIZE, {**tensors, "bert.other": torch.zeros(1)})
    with pytest.raises(ModelFileError, match=r"has shape \[1\]"):
        from_huggingface(model.config, VOCAB_SIZE, {**tensors, "cls.predictions.bias": torch.zeros(1)})


def test_old_names_of_norms_are_known() -> None:
    model = made()
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in to_huggingface(model.config, model.state_dict()).items()
    }
    assert from_huggingface(model.config, VOCAB_SIZE, old).keys() == model.state_dict().keys()


def test_a_shape_that_cannot_be_is_refused() -> None:
    with pytest.raises(RecipeError, match="not divisible"):
        described(num_heads=5)
    with pytest.raises(RecipeError, match="less than one position"):
        described(predicted_share=0.01)


def test_numbers_travel_as_their_bits() -> None:
    numbers = torch.tensor([[0.0, -2.5, 3.25e-7, 1e30]])
    scores = torch.zeros(1, 4, 1)
    sums, counts = number_losses(scores, numbers_as_targets(numbers))
    assert counts.tolist() == [4]
    assert sums[0] == numbers.square().sum()
    ignored = numbers_as_targets(numbers)
    ignored[0, 3] = IGNORE
    assert number_losses(scores, ignored)[0][0] == numbers[0, :3].square().sum()


def test_spans_are_chosen_within_their_own_text() -> None:
    scores = torch.randn(1, 6, 2, generator=torch.Generator().manual_seed(2))
    targets = torch.full((1, 2, 6), IGNORE)
    targets[0, :, 3] = torch.tensor([4, 5])
    segments = torch.tensor([[0, 0, 0, 1, 1, 1]])
    sums, counts = span_losses(scores, targets, segments[:, :, None] == segments[:, None])
    expected = [-scores[0, 3:, 0].log_softmax(0)[1], -scores[0, 3:, 1].log_softmax(0)[2]]
    assert torch.allclose(sums[0], torch.stack(expected))
    assert counts.tolist() == [[1, 1]]


@pytest.mark.parametrize("sets", [1, 3])
def test_losses_of_several_labels_are_those_of_torch(sets: int) -> None:
    labels = SET_BITS * sets - 5
    draw = torch.Generator().manual_seed(sets)
    scores = torch.randn(2, 3, labels, generator=draw)
    wanted = torch.randint(0, 2, (2, 3, labels), generator=draw)
    bits = functional.pad(wanted, (0, 5)).unflatten(-1, (sets, SET_BITS)) << torch.arange(SET_BITS)
    targets = bits.sum(-1).transpose(1, 2)
    targets[1, :, 2] = IGNORE
    valid = torch.tensor([[1.0, 1, 1], [1, 1, 0]])
    weights = tuple((torch.rand(labels, generator=draw) * 3).tolist())
    for loss, smooth, weight in (
        (LossConfig(), 0.0, None),
        (WeightedLossConfig(class_weights=weights, label_smoothing=0.2), 0.2, torch.tensor(weights)),
    ):
        sums, counts = multilabel_losses(scores, targets[:, 0] if sets == 1 else targets, loss)
        each = functional.binary_cross_entropy_with_logits(
            scores, wanted * (1 - smooth) + smooth / 2, pos_weight=weight, reduction="none"
        )
        torch.testing.assert_close(sums if sets == 1 else sums.sum(1), (each.mean(-1) * valid).sum(1))
        assert (counts if sets == 1 else counts[:, -1]).tolist() == [3, 2]
    assert SET_BITS == example_encoding.SET_BITS, "what is written is what is read"


HEADS = [("sequence", 3), ("multilabel", 3), ("multilabel", 40), ("token", 4), ("number", 1), ("span", 2)]


@pytest.mark.parametrize(("kind", "outputs"), HEADS)
def test_every_head_learns_from_its_targets(kind: Any, outputs: int) -> None:
    labels = [str(index) for index in range(outputs)] if kind in ("sequence", "multilabel", "token") else []
    config = LabellerConfig.on(described(), kind, labels)
    model = config.build(VOCAB_SIZE)
    model.initialise(1)
    assert config.num_parameters(VOCAB_SIZE) == sum(parameter.numel() for parameter in model.parameters())
    targets = torch.full((3, 2, 20) if kind == "span" or outputs > SET_BITS else (3, 20), IGNORE)
    targets[..., 0] = 0
    sums, counts = model(some_tokens(), targets=targets)
    assert (counts == 1).all()
    sums.sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.depth("embedding.weight") == 0
    assert model.depth("layers.1.ffn.up.bias") == 2
    assert model.depth("label.output.bias") == 3


def test_more_texts_than_were_said_cannot_pass_unseen() -> None:
    model = build_model(LabellerConfig.on(described(), "sequence", ("a", "b"), 2), VOCAB_SIZE)
    model.initialise(1)
    targets = torch.full((3, 20), IGNORE)
    targets[:, [0, 5]] = 1
    targets[1, 9] = 0
    assert model(some_tokens(), targets=targets)[0].isnan().tolist() == [False, True, False]


NOISES = [
    {"embedding_dropout": 0.2},
    {"attention_dropout": 0.2},
    {"residual_dropout": 0.2},
    {"stochastic_depth": 0.5},
]


@pytest.mark.parametrize("noise", NOISES)
def test_keys_alone_decide_what_is_dropped(noise: dict[str, float]) -> None:
    plain, tokens = made(), some_tokens()
    model = made(**noise)
    keys = [RowContext(row_keys(1, step, torch.arange(3))) for step in (0, 1)]
    scores = model(tokens)
    assert torch.equal(scores, plain(tokens)), "nothing is dropped without keys"
    assert torch.equal(plain(tokens, context=keys[0]), scores), "nor at rate 0"
    one, again, other = (model(tokens, context=context) for context in (keys[0], keys[0], keys[1]))
    assert torch.equal(one, again)
    assert not torch.equal(one, scores)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("noise", NOISES)
def test_a_row_drops_the_same_alone_and_among_others(noise: dict[str, float]) -> None:
    model, tokens, keys = made(**noise), some_tokens(), row_keys(1, 0, torch.arange(3))
    together = model(tokens, context=RowContext(keys))
    assert torch.allclose(model(tokens[2:], context=RowContext(keys[2:])), together[2:], atol=1e-5)


def test_the_head_of_a_task_drops_in_training_only() -> None:
    model = build_model(LabellerConfig.on(described(classifier_dropout=0.5), "token", ("a", "b", "c")), VOCAB_SIZE)
    model.initialise(1)
    tokens, context = some_tokens(), RowContext(row_keys(1, 0, torch.arange(3)))
    targets = torch.zeros_like(tokens)
    found = [model(tokens, targets=targets, context=each)[0] for each in (None, context, context)]
    assert torch.equal(found[1], found[2])
    assert not torch.equal(found[0], found[1])
    assert torch.equal(model(tokens), model(tokens, context=context)), "scores are for use"


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(1, 30))
def test_states_stand_where_the_targets_are(has_target: list[bool], places: int) -> None:
    places = min(places, len(has_target))
    targets = torch.tensor([[i if has else IGNORE for i, has in enumerate(has_target)]])
    found, chosen = first_targets(targets, places)
    wanted = [i for i, has in enumerate(has_target) if has]
    states = guarded(states_at(torch.arange(float(len(has_target)))[None, :, None], found), chosen, targets)
    if len(wanted) > places:
        assert states.isnan().all()
        return
    kept = chosen[0] != IGNORE
    assert chosen[0][kept].tolist() == states[0, kept, 0].tolist() == wanted
