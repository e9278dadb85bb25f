"""Tasks that write: what is said is compared by every rule, and stop texts end it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groundup.errors import DataError, RecipeError
from groundup.evaluate import mean
from groundup.evaluate.scores import cmrc, squad
from groundup.evaluate.scores.rouge import rouge
from groundup.evaluate.tasks import generation
from groundup.models import Decoder
from groundup.tokens import Tokenizer
from tests.evaluate.tasks.conftest import Measure, built

RECORDS = [
    {"q": "capital of France", "answers": ["Paris", "the city of Paris"]},
    {"q": "year of Emma", "answers": ["1815"]},
    {"q": "nobody knows", "answers": []},
    {"q": "北京", "answers": ["café"]},
]
SAID = ["Paris!", "in 1815", "unknown", "tea"]


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer) -> Callable[[Sequence[str]], None]:
    """Put words into the model's mouth, in the order of the items."""

    def say(texts: Sequence[str]) -> None:
        left = list(texts)

        def generated(model: Any, prompts: Sequence[Any], *settings: Any) -> list[list[int]]:
            return [tokenizer.encode(left.pop(0)) for _ in prompts]

        monkeypatch.setattr(generation, "generate_batch", generated)

    return say


def test_answers_by_the_rules_of_squad(says: Callable[..., None], measured: Measure) -> None:
    says(SAID)
    result = measured(
        RECORDS,
        kind="generation",
        prompt="{q}?",
        references="{answers}",
        metrics=["exact_match", "f1", "rouge"],
        no_answer="unknown",
    )
    items = result.samples["items"]
    assert [item["prompt"] for item in items] == [f"{record['q']}?" for record in RECORDS]
    assert [item["prediction"] for item in items] == SAID
    assert [item["exact_match"] for item in items] == [1.0, 0.0, 1.0, 0.0]
    assert [item["f1"] for item in items] == [1.0, pytest.approx(2 / 3, abs=1e-4), 1.0, 0.0]
    assert items[0]["rouge1"] == max(rouge("Paris", text)["rouge1"] for text in RECORDS[0]["answers"])
    assert result.metrics["exact_match"] == mean([1.0, 0.0, 1.0, 0.0])
    assert squad.f1("in 1815", "1815") == pytest.approx(2 / 3)


def test_chinese_answers_by_the_rules_of_cmrc(says: Callable[..., None], measured: Measure) -> None:
    says(["北京市。", "京北"])
    records = [{"q": "首都", "a": "北京"}, {"q": "首都", "a": "北京"}]
    result = measured(
        records, kind="generation", prompt="{q}", references="{a}", metrics=["exact_match", "f1"], language="zh"
    )
    assert [item["f1"] for item in result.samples["items"]] == [0.8, 0.5]
    assert result.metrics["f1"] == mean([cmrc.f1("北京市。", "北京"), cmrc.f1("京北", "北京")])


def test_translations_have_a_signature_and_an_error(says: Callable[..., None], measured: Measure) -> None:
    sacrebleu = pytest.importorskip("sacrebleu", reason="sacrebleu is not installed (extra 'metrics')")
    said = ["the cat sat on the mat", "a cat is sitting on a mat now", "the mat sat"]
    expected = ["the cat sat on the mat today", "the cat is sitting on the mat now", "the mat sat on the cat"]
    says(said)
    records = [{"zh": "猫", "en": text} for text in expected]
    result = measured(records, kind="generation", prompt="{zh}", references="{en}", metrics=["bleu", "chrf"])
    assert result.metrics["bleu"].value == pytest.approx(
        sacrebleu.BLEU(force=True).corpus_score(said, [expected]).score
    )
    assert result.metrics["chrf"].value == pytest.approx(sacrebleu.CHRF().corpus_score(said, [expected]).score)
    assert (result.metrics["bleu"].stderr or 0) > 0
    assert result.metrics["bleu"].n == 3
    assert result.samples["signatures"]["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")


def test_labels(says: Callable[..., None], measured: Measure) -> None:
    expected = ["good", "bad", "good", "bad", "good"]
    said = ["Good.", "good", "good", "awful", "bad"]
    says(said)
    records = [{"text": f"{i}", "label": label} for i, label in enumerate(expected)]
    result = measured(records, kind="generation", prompt="{text}", references="{label}", metrics=["accuracy"])
    assert result.metrics["accuracy"] == mean([1.0, 0.0, 1.0, 0.0, 0.0])
    good, bad = 2 * 2 / (3 + 3), 0 / (1 + 2)
    assert result.metrics["macro_f1"].value == pytest.approx((good + bad) / 2)
    assert (result.metrics["macro_f1"].stderr or 0) > 0


def test_a_reference_that_is_no_label(says: Callable[..., None], measured: Measure) -> None:
    says(["a"])
    with pytest.raises(DataError, match="none of `labels`"):
        measured([{"x": "1"}], kind="generation", prompt="x", references="{x}", metrics=["accuracy"], labels=["a", "b"])


def test_sums_and_toxic_words(says: Callable[..., None], measured: Measure, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("idiot\n", encoding="utf-8")
    says(["you idiot, it is 1,234", "idiot idiot", "so 7"])
    records = [{"q": str(n), "a": f"#### {n}"} for n in (1234, 5, 7)]
    result = measured(
        records,
        kind="generation",
        prompt="{q}",
        references="{a}",
        metrics=["final_answer", "toxicity"],
        word_list=str(tmp_path / "words.txt"),
    )
    assert result.metrics["final_answer"].value == pytest.approx(2 / 3)
    assert result.metrics["toxic_share"].value == pytest.approx(2 / 3)
    words = np.array([6, 2, 2])  # 1,234 is two runs of digits
    assert result.metrics["toxic_word_rate"].value == pytest.approx(3 / words.sum())
    assert result.metrics["toxic_word_rate"].n == words.sum()


def test_real_answers_stop_where_they_are_told(measured: Measure, model: Decoder, tokenizer: Tokenizer) -> None:
    records = [{"q": text, "a": "mat"} for text in ("the cat", "1815", "Zürich", "What is")]
    ask: dict[str, Any] = {"kind": "generation", "prompt": "{q}", "references": "{a}", "metrics": ["f1"]}
    whole = [item["prediction"] for item in measured(records, max_new_tokens=12, **ask).samples["items"]]
    marks = sorted({text[3] for text in whole if len(text) > 4 and text[3].strip()})
    stopped = [item["prediction"] for item in measured(records, max_new_tokens=12, stop=marks, **ask).samples["items"]]
    assert marks
    for one, other in zip(whole, stopped):
        places = [one.index(mark) for mark in marks if mark in one]
        assert other == (one[: min(places)] if places else one).strip()


def test_a_prompt_that_fills_the_context(measured: Measure, caplog: pytest.LogCaptureFixture) -> None:
    records = [{"q": "word " * 300, "a": "mat"}, {"q": "cat?", "a": "mat"}]
    ask: dict[str, Any] = {"kind": "generation", "prompt": "{q}", "references": "{a}", "metrics": ["f1"]}
    plain = measured(records, max_new_tokens=4, **ask)
    assert plain.samples["unanswered"] == 0
    with caplog.at_level("WARNING", "groundup"):
        chat = measured(records, max_new_tokens=4, chat=True, **ask)
    assert chat.samples["unanswered"] == 1
    assert chat.samples["items"][0]["prediction"] == ""
    assert "1 prompts fill the context" in caplog.text


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"metrics": ["toxicity"]}, "word_list"),
        ({"metrics": ["f1"]}, "references"),
        ({"metrics": [], "references": "{a}"}, "metrics"),
        ({"metrics": ["f1"], "references": "{a"}, "braces"),
        ({"metrics": ["f1"], "references": "{a}", "stop": [""]}, "stop"),
        ({"metrics": ["f1"], "references": "{a}", "form": "arc"}, "form"),
        ({"metrics": ["f2"], "references": "{a}"}, "metrics"),
    ],
)
def test_a_task_that_cannot_be_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as raised:
        built(kind="generation", path="items.jsonl", prompt="{q}", **values)
    assert said in "\n".join([raised.value.message, *raised.value.details])
