"""Log-probabilities in batches are those of one request alone, computed the plain way."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.evaluate.tasks import likelihood
from groundup.evaluate.tasks.likelihood import Request, Score, score
from groundup.models import CausalNetwork, Decoder, DecoderConfig, LSTMConfig, TransformersConfig, build_model
from tests.evaluate.conftest import CONTEXT_LENGTH
from tests.models.transformers_classes import VOCAB, values_of

VOCAB_SIZE = 40


def network(kind: str) -> CausalNetwork:
    if kind == "lstm":
        config = LSTMConfig(context_length=CONTEXT_LENGTH, num_layers=1, hidden_size=16)
    else:
        window = {"sliding_window": 6} if kind == "windows" else {}
        config = DecoderConfig(
            context_length=CONTEXT_LENGTH,
            num_layers=2,
            hidden_size=32,
            num_heads=4,
            num_kv_heads=2,
            ffn_size=48,
            tied=kind == "tied",
            **window,
        )
    model = build_model(config, VOCAB_SIZE)
    model.initialise(seed=3)
    assert isinstance(model, CausalNetwork)
    return model.eval()


MODELS = {kind: network(kind) for kind in ("decoder", "tied", "windows", "lstm")}


@torch.inference_mode()
def alone(model: CausalNetwork, request: Request) -> Score:
    """Everything read at once, all logits, no batch."""
    whole = [*request.context, *request.continuation]
    read = torch.tensor([whole[:-1][-CONTEXT_LENGTH:]])
    count = len(request.continuation)
    logits = model(read)[0, -count:].double()
    targets = torch.tensor(request.continuation)
    found = logits.log_softmax(-1)[torch.arange(count), targets].sum()
    return Score(float(found), bool((logits.argmax(-1) == targets).all()))


TOKENS = st.integers(0, VOCAB_SIZE - 1)
CONTEXTS = st.lists(TOKENS, min_size=1, max_size=60).map(tuple)
CONTINUATIONS = st.lists(TOKENS, min_size=1, max_size=7).map(tuple)


@pytest.mark.parametrize("kind", list(MODELS))
@settings(max_examples=15, deadline=None)
@given(questions=st.lists(st.tuples(CONTEXTS, st.lists(CONTINUATIONS, min_size=1, max_size=4)), max_size=5))
def test_batches_change_nothing(kind: str, questions: list[tuple[tuple[int, ...], list[tuple[int, ...]]]]) -> None:
    requests = [Request(context, said) for context, options in questions for said in options]
    for request, found in zip(requests, score(MODELS[kind], requests)):
        expected = alone(MODELS[kind], request)
        assert found.log_likelihood == pytest.approx(expected.log_likelihood, abs=2e-5)
        assert found.is_greedy == expected.is_greedy


def test_small_batches_and_few_logits_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [Request(tuple(range(n, n + 12)), (n, 1 + m)) for n in range(9) for m in range(3)]
    whole = score(MODELS["decoder"], requests)
    monkeypatch.setattr(likelihood, "BATCH_TOKENS", 20)
    monkeypatch.setattr(likelihood, "BATCH_LOGITS", VOCAB_SIZE)
    for one, other in zip(score(MODELS["decoder"], requests), whole):
        assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-5)


def test_a_context_is_computed_once_for_all_its_continuations(monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODELS["decoder"]
    assert isinstance(model, Decoder)
    read = []
    real = Decoder.extend

    def counted(self: Decoder, tokens: torch.Tensor, cache: object) -> torch.Tensor:
        read.append(tokens.numel())
        return real(self, tokens, cache)

    monkeypatch.setattr(Decoder, "extend", counted)
    context = tuple(range(30))
    score(model, [Request(context, (said, 1)) for said in range(8)])
    assert read == [29, 8 * 2]


def test_what_cannot_be_scored_is_an_error() -> None:
    for request in (Request((), (1,)), Request((1,), ()), Request((1,), (1,) * (CONTEXT_LENGTH + 1))):
        with pytest.raises(ValueError, match="continuation"):
            score(MODELS["decoder"], [request])
    longest = Request((1,), (2,) * CONTEXT_LENGTH)
    assert score(MODELS["decoder"], [longest])[0].log_likelihood == pytest.approx(
        alone(MODELS["decoder"], longest).log_likelihood, abs=1e-4
    )


def test_advance_counts_every_request_once() -> None:
    done: list[int] = []
    requests = [Request((1, 2, 3), (4,)), Request((1, 2, 3), (4,)), Request((1, 2, 3), (5,))]
    score(MODELS["decoder"], requests, done.append)
    assert sum(done) == 3


@pytest.mark.parametrize("model_type", ["gpt_neox", "gemma2"])
def test_a_class_of_transformers(model_type: str) -> None:
    """Gemma 2 caps its scores, so they are all that comes out of it."""
    pytest.importorskip("transformers", reason="transformers is not installed (extra 'hf')")
    model = TransformersConfig(context_length=CONTEXT_LENGTH, values=values_of(model_type)).build(VOCAB)
    model.initialise(3)
    assert isinstance(model, CausalNetwork)
    requests = [Request((7, 3, 9, 1, 2, 3, 4, 5, 6, 7), said) for said in ((5, 6), (11,), (12, 13, 14))]
    requests.append(Request((1,), (2, 3)))
    for request, found in zip(requests, score(model.eval(), requests)):
        assert found.log_likelihood == pytest.approx(alone(model, request).log_likelihood, abs=1e-4)
