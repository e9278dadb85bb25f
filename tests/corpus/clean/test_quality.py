"""Published heuristics: each bound drops what is beyond it with the measured value; good text passes in any script."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.corpus.clean import Dropped, Text
from groundup.corpus.clean.repetition import RepetitionConfig, _Grams, repetition
from groundup.corpus.clean.stop_words import STOP_WORDS
from groundup.corpus.clean.text import language_of_script
from tests.corpus.languages import TEXTS

NOUNS = (
    "river",
    "house",
    "garden",
    "winter",
    "letter",
    "teacher",
    "market",
    "village",
    "engine",
    "morning",
    "window",
    "captain",
    "forest",
    "harbour",
)
OPENINGS = ("The", "A", "Every", "One", "Some", "That", "This", "Another")
VERBS = (
    "crossed",
    "painted",
    "remembered",
    "followed",
    "measured",
    "carried",
    "described",
    "answered",
    "gathered",
    "repaired",
)
HAN = "山水木火土金日月星云风雨雷电花草鸟鱼虫马牛羊犬车船路桥门窗灯笔书画琴棋诗酒茶饭衣"


def english(seed, lines=12):
    rng = random.Random(seed)

    def sentence():
        one, two, three, four = (rng.choice(NOUNS) for _ in range(4))
        beginning = f"{rng.choice(OPENINGS)} {one} of the {two} {rng.choice(VERBS)} a {three}"
        return f"{beginning} and {rng.choice(VERBS)} the {four} with {rng.randrange(2, 999)} others."

    return "\n".join(f"{sentence()} {sentence()}" for _ in range(lines))


def chinese(seed, lines=12):
    rng = random.Random(seed)

    def clause(length):
        return "".join(rng.choices(HAN, k=length))

    return "\n".join(
        f"我在{clause(6)}的{clause(5)}，他是{clause(8)}和{clause(6)}了。{clause(9)}！" for _ in range(lines)
    )


def overlapping(text, mark):
    """Each sentence twice, and no line twice."""
    sentences = text.replace("\n", " ").split(mark)
    return "\n".join(f"{one}{mark}{other}{mark}" for one, other in itertools.pairwise(sentences))


ALL = {"gopher": {}, "repetition": {}, "c4": {}, "fineweb": {}}
GOOD = {"english": english(1), "chinese": chinese(1), "quotes": chinese(2).replace("！", "！」")}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_good_text_passes_unchanged(run, text):
    assert run(text, **ALL)[0] == text


def test_presets_keep_good_text(run):
    pytest.importorskip("ftfy", reason="the extra `data` is not installed")
    for preset, text in itertools.product(("none", "basic", "gopher", "c4", "fineweb"), GOOD.values()):
        assert run(text, preset=preset)[0] == text


WORDS = english(3).split()
CASES = {
    "gopher: too few words": ("gopher", " ".join(WORDS[:40])),
    "gopher: words too long": ("gopher", " ".join(word * 3 for word in WORDS)),
    "gopher: words too short": ("gopher", " ".join(word[:2] for word in WORDS)),
    "gopher: too many hash signs": ("gopher", " #".join(WORDS)),
    "gopher: too many ellipses": ("gopher", "... ".join(WORDS)),
    "gopher: too many bullet lines": ("gopher", "\n".join("- " + line for line in english(4, 30).split("\n"))),
    "gopher: too many lines that end in an ellipsis": ("gopher", english(5).replace(".\n", "...\n")),
    "gopher: too few words with letters": (
        "gopher",
        " ".join(f"{word} = {number}" for number, word in enumerate(WORDS)),
    ),
    "gopher: too few stop words": (
        "gopher",
        english(6)
        .replace("The", "Xe")
        .replace("the", "xe")
        .replace(" of ", " xof ")
        .replace(" and ", " xand ")
        .replace(" with ", " xith "),
    ),
    "repetition: duplicate paragraphs": ("repetition", "\n\n".join([english(7, 1)] * 3)),
    "repetition: duplicate lines": ("repetition", "\n".join([*english(8, 4).split("\n"), "ab", "ab", "ab", "ab"])),
    "repetition: characters in duplicate lines": (
        "repetition",
        english(9, 8) + "\n" + english(9, 2) + "\n" + english(9, 1),
    ),
    "repetition: most frequent 2-gram": (
        "repetition",
        "\n".join(f"again and {word} again and" for word in sorted(set(WORDS))),
    ),
    "repetition: repeated 5-grams": ("repetition", overlapping(english(10), ". ")),
    "c4: too few sentences": ("c4", "One. Two words here. Three words are here.\nNo mark at the end"),
    "c4: lorem ipsum": ("c4", english(1) + "\nLorem ipsum dolor sit amet."),
    "c4: curly bracket": ("c4", english(1) + "\nif (x) { return a value }."),
    "fineweb: few lines with terminal punctuation": ("fineweb", english(1).replace(".\n", "\n")[:-1]),
    "fineweb: many short lines": ("fineweb", "\n".join(f"{word} went there." for word in WORDS[:40])),
    "fineweb: characters in duplicate lines": ("fineweb", english(1) + "\n" + english(1, 1)),
    "fineweb: many line breaks": ("fineweb", "\n".join(f"{noun * 8}{number}." for number, noun in enumerate(NOUNS))),
}


@pytest.mark.parametrize("reason", CASES)
def test_each_bound_drops(run, reason):
    rule, text = CASES[reason]
    dropped, _ = run(text, **{rule: {}})
    assert isinstance(dropped, Dropped)
    assert dropped.reason == reason
    if rule != "c4" or "sentences" in reason:
        assert dropped.value != dropped.bound
        assert isinstance(dropped.bound, int | float)


@pytest.mark.parametrize("language", sorted(STOP_WORDS.keys() & TEXTS.keys() - {"zh", "ja", "ko"}))
def test_text_of_an_unidentified_language_needs_its_own_stop_words(run, language):
    assert not isinstance(run(TEXTS[language], gopher={"min_words": 20})[0], Dropped)
    assert run(TEXTS[language], gopher={"min_words": 20, "stop_words": ["xyzzy", "plugh"]})[0].value == 0


CHINESE_CASES = {
    "gopher: too few words": ("gopher", chinese(1, 2)[:70]),
    "gopher: too few stop words": ("gopher", "".join(random.Random(1).choices(HAN, k=400))),
    "repetition: duplicate lines": ("repetition", chinese(2, 5) + "\n很好\n很好\n很好\n很好"),
    "repetition: repeated 5-grams": ("repetition", overlapping(chinese(4), "。")),
    "c4: too few sentences": ("c4", chinese(1, 2)),
    "fineweb: few lines with terminal punctuation": (
        "fineweb",
        "\n".join("首页 新闻 体育 财经 娱乐 科技 汽车" + c for c in HAN),
    ),
    "fineweb: many short lines": ("fineweb", "\n".join(f"春眠{c}觉晓。" for c in HAN)),
}


@pytest.mark.parametrize("reason", CHINESE_CASES)
def test_each_bound_has_a_chinese_form(run, reason):
    rule, text = CHINESE_CASES[reason]
    dropped, _ = run(text, **{rule: {}})
    assert isinstance(dropped, Dropped)
    assert dropped.reason == reason


def test_c4_takes_out_lines_and_counts_them(run):
    good = english(2, 6)
    bad = ("Menu Home About", "Too short.", "You must enable Javascript here.", "Read our privacy policy, please.")
    text = "\n".join((good, *bad, "End[1] of it."))
    cleaned, changes = run(text, c4={})
    assert cleaned == f"{good}\nEnd of it."
    assert changes.edits == {
        "c4: lines without terminal punctuation": 1,
        "c4: lines of few words": 1,
        "c4: lines about JavaScript": 1,
        "c4: lines about cookies and terms": 1,
        "c4: citations": 1,
    }
    assert "Menu Home" in run(text, c4={"terminal_punctuation": False})[0]


def test_c4_in_chinese(run):
    cleaned, _ = run(
        f"{chinese(3)}\n首页 | 新闻 | 体育\n好。\n他说：“今天的天气很好。”\n本站使用Cookie，请阅读隐私政策。", c4={}
    )
    assert cleaned == f"{chinese(3)}\n他说：“今天的天气很好。”"


def test_bounds_are_the_recipes(run):
    assert run(english(1, 1), gopher={"min_words": 5})[0] == english(1, 1)
    assert run(chinese(1), gopher={"languages": {"zh": {"min_words": 10_000}}})[0].bound == 10_000
    assert run(english(1), gopher={"stop_words": ["xyzzy", "plugh"]})[0].reason == "gopher: too few stop words"
    fractions = (
        "duplicate_paragraphs",
        "duplicate_paragraph_characters",
        "duplicate_lines",
        "duplicate_line_characters",
    )
    off = {**{f"max_{name}": 0.0 for name in fractions}, "top_ngrams": [], "duplicate_ngrams": []}
    text = "\n\n".join([english(7, 1)] * 3)
    assert run(text, repetition=off)[0] == text


def naive_top(words, n):
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    if not grams:
        return 0
    most = max(map(grams.count, grams))
    first = next(gram for gram in grams if grams.count(gram) == most)
    return most * len(" ".join(first))


def naive_repeated(words, n):
    seen, total, index = set(), 0, 0
    while index + n <= len(words):
        gram = tuple(words[index : index + n])
        if gram in seen:
            total += len("".join(gram))
            index += n
        else:
            seen.add(gram)
            index += 1
    return total


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["a", "bb", "ccc", "dd"]), min_size=1, max_size=60))
def test_ngrams_are_counted_as_written_down_plainly(words):
    string = " ".join(words)
    for n in (2, 3, 4):
        assert np.isclose(_Grams(Text(string)).top_share(n, -1.0), naive_top(words, n) / len(string))
    for n in (5, 7, 10):
        exact = naive_repeated(words, n) / len(string)
        assert np.isclose(_Grams(Text(string)).repeated_share(n), exact)
        assert exact <= _Grams(Text(string)).repeated_share_at_most(5) + 1e-9


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["one two three four five", "six", "seven eight nine ten", "\n"]), max_size=40))
def test_shortcuts_never_change_the_outcome(pieces):
    text = Text(" ".join(pieces))
    outcome = repetition(RepetitionConfig(), text)
    bounds = RepetitionConfig()
    grams = _Grams(text)
    exceeded = any(grams.top_share(n, -1.0) > bound for n, bound in bounds.top_ngrams) or any(
        grams.repeated_share(n) > bound for n, bound in bounds.duplicate_ngrams
    )
    assert exceeded == (outcome is not None and "gram" in outcome.reason) or (outcome is not None)


def test_language_by_script():
    assert [
        language_of_script(text)
        for text in ("plain", "größer", chinese(1), "これは日本語の文章です。", "한국어 문장입니다", "Привет мир")
    ] == [
        "en",
        "en",
        "zh",
        "ja",
        "ko",
        "en",
    ]
