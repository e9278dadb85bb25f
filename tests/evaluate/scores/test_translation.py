"""BLEU and chrF are sacrebleu's, fed text by text."""

from __future__ import annotations

import numpy as np
import pytest

from groundup.evaluate.scores.translation import TranslationScore

sacrebleu = pytest.importorskip("sacrebleu", reason="sacrebleu is not installed (extra 'metrics')")

PREDICTIONS = ["the cat sat on the mat .", "he read a book because he was interested", "Bonjour le monde", ""]
REFERENCES = [
    ["The cat sat on the mat.", "A cat was on the mat."],
    ["He was interested in the book, so he read it.", "he read the book because he was interested in it"],
    ["Hello, world", "Hello world"],
    ["nothing", "silence"],
]
CHINESE = [("猫坐在垫子上。", "一只猫坐在垫子上。"), ("他读了一本书", "他读过那本书"), ("GDP增长5%", "GDP 增长了 5%")]


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_the_score_and_its_signature_are_sacrebleus(name: str) -> None:
    score = TranslationScore(name, "en")
    sums = np.sum([score.sums(said, references) for said, references in zip(PREDICTIONS, REFERENCES)], axis=0)
    metric = sacrebleu.BLEU(force=True) if name == "bleu" else sacrebleu.CHRF()
    expected = metric.corpus_score(PREDICTIONS, [list(column) for column in zip(*REFERENCES)])
    assert score.score(sums) == pytest.approx(expected.score, abs=1e-9)
    assert score.signature == str(metric.get_signature())


def test_chinese_is_cut_by_the_tokenizer_for_it() -> None:
    score = TranslationScore("bleu", "zh")
    sums = np.sum([score.sums(said, [reference]) for said, reference in CHINESE], axis=0)
    said, references = zip(*CHINESE)
    expected = sacrebleu.corpus_bleu(list(said), [list(references)], tokenize="zh", force=True)
    assert score.score(sums) == pytest.approx(expected.score, abs=1e-9)
    assert "tok:zh" in score.signature


def test_texts_with_different_numbers_of_references() -> None:
    score = TranslationScore("bleu", "en")
    sums = np.sum([score.sums("a b c d e", ["a b c d e"]), score.sums("f g h i j", ["f g h", "f g h i k"])], axis=0)
    expected = sacrebleu.BLEU(force=True).corpus_score(
        ["a b c d e", "f g h i j"], [["a b c d e", "f g h"], [None, "f g h i k"]]
    )
    assert score.score(sums) == pytest.approx(expected.score, abs=1e-9)
    assert "nrefs:var" in score.signature
