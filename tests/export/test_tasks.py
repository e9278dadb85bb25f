"""Models of tasks: transformers and we give the same scores from their files and from ours, and names are kept."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from groundup.errors import ModelFileError, RecipeError
from groundup.export import LoadedModel, import_model, load_model, save_model
from groundup.inference import (
    LabelPrediction,
    LabelsPrediction,
    NumberPrediction,
    SpanPrediction,
    WordsPrediction,
    asked,
)
from groundup.models import EncoderConfig, LabelKind, LabellerConfig
from groundup.tokens import (
    CONTROL_TOKENS,
    ENCODER_TOKENS,
    Example,
    Tokenizer,
    TokenizerConfig,
    encode_example,
    train_tokenizer,
)
from tests.tokens.wordpieces import VOCAB, write_vocab

transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra 'hf')")
CLASSES = {
    "sequence": "BertForSequenceClassification",
    "multilabel": "BertForSequenceClassification",
    "number": "BertForSequenceClassification",
    "token": "BertForTokenClassification",
    "span": "BertForQuestionAnswering",
}
LABELS = {"sequence": ("dry", "wet", "中"), "token": ("O", "B-PER", "I-PER"), "multilabel": ("dry", "wet", "中")}
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    texts = ["the river bank of 北京 is long"] * 4
    train_tokenizer(TokenizerConfig(vocab_size=290), texts, folder, (*CONTROL_TOKENS, *ENCODER_TOKENS))
    return Tokenizer.load(folder)


def random_sizes(seed: int) -> dict[str, Any]:
    draw = random.Random(seed)
    heads = draw.choice([1, 2, 3, 5])
    return {
        "hidden_size": heads * draw.choice([4, 6]),
        "num_hidden_layers": draw.choice([1, 2, 3]),
        "num_attention_heads": heads,
        "intermediate_size": draw.choice([9, 20]),
        "max_position_embeddings": draw.choice([16, 33]),
        "type_vocab_size": draw.choice([2, 3]),
        "layer_norm_eps": draw.choice([1e-12, 1e-5]),
        "vocab_size": len(set(VOCAB)),
    }


def their_model(task: str, seed: int, **more: Any) -> torch.nn.Module:
    config = transformers.BertConfig(**random_sizes(seed), **more)
    model: torch.nn.Module = getattr(transformers, CLASSES[task])(config).eval()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.1)
    return model


def their_scores(task: str, model: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        found = model(tokens)
    scores = torch.stack([found.start_logits, found.end_logits], -1) if task == "span" else found.logits
    return scores[:, None] if scores.ndim == 2 else scores


def some_tokens(vocab_size: int, time: int) -> torch.Tensor:
    return torch.randint(0, vocab_size, (2, time), generator=torch.Generator().manual_seed(time))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("task", CLASSES)
def test_their_folder_gives_their_scores_here(task: str, seed: int, tmp_path: Path) -> None:
    names = {index: f"name {index}" for index in range(2 + seed)}
    more: dict[str, Any] = {"number": {"num_labels": 1}, "span": {}}.get(task, {"id2label": names} if seed else {})
    if task == "multilabel":
        more = {**more, "problem_type": "multi_label_classification"}
    theirs = their_model(task, seed, **more)
    theirs.save_pretrained(tmp_path)  # type: ignore[operator]
    write_vocab(tmp_path)
    loaded = load_model(tmp_path)
    config = loaded.labeller.config
    assert (config.task, config.pooled) == (task, task in ("sequence", "multilabel", "number"))
    if task in LABELS:
        assert config.labels == (tuple(names.values()) if seed else ("LABEL_0", "LABEL_1"))
    tokens = some_tokens(loaded.model.vocab_size, 11)
    expected = their_scores(task, theirs, tokens)
    assert (loaded.logits(tokens)[:, : expected.shape[1]] - expected).abs().max() <= TOLERANCE


def labeller(task: LabelKind, tokenizer: Tokenizer, seed: int = 1) -> LoadedModel:
    body = EncoderConfig(
        kind="encoder", context_length=24, num_layers=2, hidden_size=12, num_heads=3, ffn_size=20, next_sentence=True
    )
    config = LabellerConfig.on(body, task, LABELS.get(task, ()), answer_tokens=70)
    model = config.build(tokenizer.vocab_size)
    model.initialise(seed)
    return LoadedModel(model.eval().requires_grad_(False), Path("made"), tokenizer)


@pytest.mark.parametrize("task", CLASSES)
def test_our_folder_gives_our_scores_there(task: LabelKind, tokenizer: Tokenizer, tmp_path: Path) -> None:
    made = labeller(task, tokenizer)
    save_model(made, tmp_path, with_transformers=False)
    again = load_model(tmp_path)
    assert again.labeller.config.task == task
    assert again.labeller.config.labels == LABELS.get(task, ())
    assert again.labeller.config.longest_answer_tokens == (70 if task == "span" else 30)
    save_model(again, tmp_path / "again", with_transformers=False)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    theirs = getattr(transformers, CLASSES[task]).from_pretrained(tmp_path).eval()
    tokens = some_tokens(tokenizer.vocab_size, 9)
    expected = their_scores(task, theirs, tokens)
    assert (made.logits(tokens)[:, : expected.shape[1]] - expected).abs().max() <= TOLERANCE
    if task in LABELS:
        assert tuple(theirs.config.id2label.values()) == LABELS[task]
    # What transformers makes of a pair: the same tokens, and which text each is of, or every second text is misread.
    opened = transformers.AutoTokenizer.from_pretrained(tmp_path)
    example = Example("", "the river", "北京 is long", label="")
    window = encode_example(example, "sequence", None, tokenizer, 24)[0]
    both = opened(example.text, example.pair)
    assert (both["input_ids"], both["token_type_ids"]) == (window.tokens, window.parts)
    assert len(opened("long " * 99, truncation=True)["input_ids"]) == opened.model_max_length == 24


def test_a_single_label_of_several_is_no_number(tmp_path: Path) -> None:
    theirs = their_model("multilabel", 1, num_labels=1, problem_type="multi_label_classification")
    theirs.save_pretrained(tmp_path)  # type: ignore[operator]
    write_vocab(tmp_path)
    loaded = load_model(tmp_path)
    assert (loaded.labeller.config.task, loaded.labeller.config.labels) == ("multilabel", ("LABEL_0",))
    found = loaded.predict("the river")
    assert isinstance(found, LabelsPrediction)
    score = their_scores("multilabel", theirs, torch.tensor([encoded(loaded, "the river")]))
    assert found.probabilities["LABEL_0"] == pytest.approx(float(score.sigmoid()), abs=1e-6)


def test_losses_of_several_labels_are_theirs(tmp_path: Path) -> None:
    names = {index: f"name {index}" for index in range(40)}
    theirs = their_model("multilabel", 2, id2label=names, problem_type="multi_label_classification")
    theirs.save_pretrained(tmp_path)  # type: ignore[operator]
    write_vocab(tmp_path)
    loaded = load_model(tmp_path)
    example = Example("", "the river is long", labels=("name 0", "name 30", "name 31", "name 39"))
    numbers = {name: index for index, name in names.items()}
    window = encode_example(example, "multilabel", numbers, loaded.tokenizer, 33)[0]
    tokens = torch.tensor([window.tokens])
    targets = torch.full((1, 2, len(window.tokens)), -100)
    targets[0, :, 0] = torch.tensor([each[0] for each in window.targets])
    wanted = torch.tensor([[float(name in example.labels) for name in numbers]])
    with torch.inference_mode():
        sums, counts = loaded.model(tokens, targets=targets)
        expected = theirs(tokens, labels=wanted).loss
    assert counts.tolist() == [[1, 1]] and float(sums.sum()) == pytest.approx(float(expected), abs=1e-6)


def encoded(loaded: LoadedModel, text: str) -> list[int]:
    return encode_example(Example("", text), "sequence", None, loaded.tokenizer, 33)[0].tokens


def test_a_pooler_that_words_do_not_need_may_lie_in_the_file(tmp_path: Path) -> None:
    theirs = their_model("token", 1)
    theirs.save_pretrained(tmp_path)  # type: ignore[operator]
    write_vocab(tmp_path)
    before = load_model(tmp_path).logits(torch.tensor([[3, 7, 8, 4]]))
    tensors = load_file(tmp_path / "model.safetensors")
    size = tensors["classifier.weight"].shape[1]
    pooler = {"bert.pooler.dense.weight": torch.ones(size, size), "bert.pooler.dense.bias": torch.ones(size)}
    save_file({**tensors, **pooler}, tmp_path / "model.safetensors")
    assert torch.equal(load_model(tmp_path).logits(torch.tensor([[3, 7, 8, 4]])), before)


@pytest.mark.parametrize(
    ("task", "change", "fault"),
    [
        ("sequence", {"problem_type": "ordinal"}, "problem_type 'ordinal' with 3 labels"),
        ("sequence", {"problem_type": "regression"}, "problem_type 'regression' with 3 labels"),
        ("sequence", {"id2label": {"0": "a", "2": "b", "3": "c"}}, "id2label does not name the labels 0, 1, 2"),
        ("sequence", {"id2label": {"0": "a", "1": "a", "2": "b"}}, "two labels have the same name"),
        ("sequence", {"id2label": {"0": "a", "1": "b"}}, r"says \[2, \d+\] by id2label"),
        ("sequence", {"id2label": None, "num_labels": -3}, "num_labels '-3' is no number"),
        ("span", {"id2label": {"0": "a"}}, "1 labels, a span has a start and an end"),
        ("span", {"task_specific_params": {"question-answering": {"max_answer_len": 0}}}, "max_answer_len '0' is no"),
        ("token", {"architectures": ["BertForMultipleChoice"]}, "architectures .* is not known; use BertForMaskedLM"),
        ("token", {"architectures": ["BertForSequenceClassification"]}, "missing|parameters"),
    ],
)
def test_what_would_be_read_wrongly_is_refused(
    task: LabelKind, change: dict[str, Any], fault: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    save_model(labeller(task, tokenizer), tmp_path, with_transformers=False)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelFileError, match=fault):
        load_model(tmp_path)


def test_a_foreign_encoder_is_imported_with_its_tokenizer(tmp_path: Path) -> None:
    values = random_sizes(2)
    theirs = transformers.BertForPreTraining(transformers.BertConfig(**{**values, "vocab_size": 128})).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    write_vocab(tmp_path / "theirs", do_lower_case=True)
    done = import_model(tmp_path / "theirs", tmp_path / "ours", with_transformers=False)
    assert (done["vocab_size"], done["rows_in_file"]) == (len(set(VOCAB)), 128)
    loaded = load_model(tmp_path / "ours")
    assert loaded.fill_mask("the [MASK] of zurich 北京", top_k=3)
    text = "Zürich is long, 北京大学!"
    opened = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    original = transformers.AutoTokenizer.from_pretrained(tmp_path / "theirs")
    ids = loaded.tokenizer.encode(text)
    assert opened(text, add_special_tokens=False)["input_ids"] == ids
    assert original(text, add_special_tokens=False)["input_ids"] == ids


def test_every_task_says_its_kind_of_thing(tokenizer: Tokenizer) -> None:
    text = "the river bank of 北京 is long and long and long " * 3
    label = labeller("sequence", tokenizer).predict(text, "the river")
    assert isinstance(label, LabelPrediction)
    assert sum(label.probabilities.values()) == pytest.approx(1.0)
    assert label.label == max(label.probabilities, key=lambda name: label.probabilities[name])
    assert label.was_cut
    several = labeller("multilabel", tokenizer)
    for threshold in (None, 0.4, 0.6):
        labels = several.predict(text, "the river", threshold)
        assert isinstance(labels, LabelsPrediction) and labels.was_cut
        limit = threshold or 0.5
        assert labels.labels == tuple(name for name, share in labels.probabilities.items() if share >= limit)
        assert len(labels.lines()) == max(1, len(labels.labels))
    number = labeller("number", tokenizer).predict("the river")
    assert isinstance(number, NumberPrediction)
    assert not number.was_cut
    words = labeller("token", tokenizer).predict(text.split())
    assert isinstance(words, WordsPrediction)
    assert words.words == tuple(text.split())
    assert len(words.labels) == len(words.probabilities) == len(words.words)
    for entity in words.entities:
        first = words.words[entity["first"]]
        assert entity["text"].startswith(first)
    span = labeller("span", tokenizer).predict(text, "where?")
    assert isinstance(span, SpanPrediction)
    assert span.answer == text[span.start : span.end]
    assert (span.score > 0) == bool(span.answer)


@pytest.mark.parametrize("task", CLASSES)
def test_a_text_is_judged_alike_alone_and_among_others(task: LabelKind, tokenizer: Tokenizer) -> None:
    made = labeller(task, tokenizer, seed=5)
    pair = "where?" if task == "span" else None
    texts = ["the river", "北京 is long " * 9, "a", "the bank of the river is long " * 4]
    together = made.predict_all([asked(task, text, pair) for text in texts])
    for text, found in zip(texts, together):
        alone = made.predict(text, pair)
        for one, other in zip(json.dumps(alone.as_dict()).split(), json.dumps(found.as_dict()).split()):
            try:
                assert float(one.strip(",}]")) == pytest.approx(float(other.strip(",}]")), abs=1e-5)
            except ValueError:
                assert one == other


def test_questions_that_a_model_cannot_answer_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(RecipeError, match="give the question too"):
        labeller("span", tokenizer).predict("the river")
    with pytest.raises(RecipeError, match="reads one text"):
        labeller("token", tokenizer).predict("the river", "bank")
    with pytest.raises(RecipeError, match="no word in the text"):
        labeller("token", tokenizer).predict(" \n")
    with pytest.raises(RecipeError, match="the text is empty"):
        labeller("sequence", tokenizer).predict(" ")
    with pytest.raises(RecipeError, match="threshold is for models of several labels"):
        labeller("sequence", tokenizer).predict("the river", threshold=0.3)
    with pytest.raises(RecipeError, match=r"threshold 1\.5: give a probability"):
        labeller("multilabel", tokenizer).predict("the river", threshold=1.5)
    with pytest.raises(RecipeError, match="fills no"):
        labeller("sequence", tokenizer).fill_mask("the [MASK]")
