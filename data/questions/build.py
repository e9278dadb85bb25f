"""Passages with questions about them, English and Chinese, made by a grammar, for `recipes/qa-mini.yaml`.

    python data/questions/build.py

    english-train.jsonl, english-heldout.jsonl    {"context", "question", "answers": [...], "answer"}: SQuAD, and CMRC
    chinese-train.jsonl, chinese-heldout.jsonl    2018 in Chinese, after `groundup convert squad`
    text.jsonl                                    the training passages with their questions as running text

What is held out is a combination of a person and a fact about them: one in eight is said by no training passage, and
only such facts are asked for in the held-out questions, so an answer has to be read, not remembered. All is synthetic.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from data.drawn import is_held_out, lines_of, write  # noqa: E402

TRAIN, HELDOUT = {"english": 5000, "chinese": 2500}, {"english": 300, "chinese": 150}
HELDOUT_EVERY = 8


class Fact(NamedTuple):
    """A kind of fact: how it is told of a person {p} with a value {v}, how it is asked for, which values there are."""

    told: tuple[str, ...]
    asked: tuple[str, ...]
    values: tuple[str, ...]


YEARS: Final = tuple(str(year) for year in range(1940, 2005, 3))

ENGLISH_NAMES: Final = (
    "Maria",
    "Tom",
    "Anna",
    "Peter",
    "Lucy",
    "David",
    "Emma",
    "Paul",
    "Clara",
    "Oscar",
    "Nina",
    "Hugo",
    "Alice",
    "Felix",
    "Laura",
    "Simon",
    "Rosa",
    "Martin",
    "Julia",
    "Leo",
    "Sara",
    "Victor",
    "Helen",
    "Adam",
    "Iris",
    "Daniel",
    "Olga",
    "Frank",
    "Vera",
    "Robert",
)
ENGLISH: Final = {
    "job": Fact(
        ("{p} works as {v}.", "{p} is {v}.", "For many years {p} has been {v}."),
        ("What is {p}'s job?", "What does {p} do for a living?", "What does {p} work as?"),
        (
            "a baker",
            "a pilot",
            "a nurse",
            "a farmer",
            "a teacher",
            "a painter",
            "a lawyer",
            "a fisherman",
            "a dentist",
            "a tailor",
            "an actor",
            "an engineer",
            "a gardener",
            "a butcher",
            "a judge",
            "a waiter",
        ),
    ),
    "town": Fact(
        ("{p} lives in {v}.", "{p} has a small house in {v}.", "The home of {p} is in {v}."),
        ("Where does {p} live?", "In which town does {p} live?", "Which town does {p} live in?"),
        (
            "Lisbon",
            "Oslo",
            "Vienna",
            "Dublin",
            "Prague",
            "Naples",
            "Geneva",
            "Athens",
            "Bergen",
            "Krakow",
            "Porto",
            "Riga",
            "Turin",
            "Bristol",
            "Lyon",
            "Cairo",
            "Lima",
            "Kyoto",
            "Boston",
            "Delhi",
        ),
    ),
    "born": Fact(
        ("{p} was born in {v}.", "{p} came into the world in {v}."),
        ("When was {p} born?", "In which year was {p} born?"),
        YEARS,
    ),
    "instrument": Fact(
        ("{p} plays the {v}.", "In the evening {p} plays the {v}.", "{p} has played the {v} since childhood."),
        ("Which instrument does {p} play?", "What does {p} play?"),
        ("violin", "piano", "flute", "guitar", "trumpet", "cello", "drums", "harp", "organ", "clarinet"),
    ),
    "animal": Fact(
        ("{p} keeps {v}.", "{p} has {v} in the garden.", "In the yard {p} keeps {v}."),
        ("Which animals does {p} keep?", "What does {p} keep?"),
        (
            "two goats",
            "three hens",
            "four rabbits",
            "two horses",
            "five sheep",
            "a black cat",
            "a white dog",
            "six ducks",
            "an old donkey",
            "three cows",
        ),
    ),
    "dish": Fact(
        ("{p} likes {v} best of all.", "The favourite dish of {p} is {v}.", "{p} would eat {v} every day."),
        ("What is {p}'s favourite dish?", "What does {p} like to eat best?"),
        (
            "onion soup",
            "fried fish",
            "apple cake",
            "rice with beans",
            "lamb stew",
            "cheese pie",
            "roast duck",
            "noodles",
            "potato salad",
            "pancakes",
        ),
    ),
}

CHINESE_NAMES: Final = (
    "王芳",
    "李明",
    "张伟",
    "刘洋",
    "陈静",
    "杨丽",
    "赵强",
    "黄敏",
    "周涛",
    "吴娟",
    "徐超",
    "孙燕",
    "马军",
    "朱红",
    "胡斌",
    "郭霞",
    "何勇",
    "高洁",
    "林峰",
    "罗兰",
)
CHINESE: Final = {
    "job": Fact(
        ("{p}是一名{v}。", "{p}多年来一直当{v}。"),
        ("{p}的职业是什么？", "{p}做什么工作？"),
        ("医生", "老师", "司机", "厨师", "律师", "护士", "农民", "画家", "工程师", "记者", "演员", "警察"),
    ),
    "town": Fact(
        ("{p}住在{v}。", "{p}的家在{v}。"),
        ("{p}住在哪里？", "{p}的家在哪个城市？"),
        ("北京", "上海", "广州", "成都", "西安", "南京", "杭州", "武汉", "天津", "昆明", "青岛", "苏州"),
    ),
    "born": Fact(("{p}出生于{v}年。", "{p}生于{v}年。"), ("{p}是哪一年出生的？", "{p}出生于哪一年？"), YEARS),
    "instrument": Fact(
        ("{p}喜欢演奏{v}。", "{p}从小学习{v}。"),
        ("{p}演奏什么乐器？", "{p}会哪种乐器？"),
        ("钢琴", "小提琴", "吉他", "笛子", "二胡", "古筝", "琵琶", "大提琴"),
    ),
    "animal": Fact(
        ("{p}养了{v}。", "{p}家里有{v}。"),
        ("{p}养了什么动物？", "{p}家里有什么动物？"),
        ("一只猫", "一只狗", "两只鸟", "三条鱼", "两只羊", "一匹马", "四只鸡", "五只鸭子"),
    ),
    "dish": Fact(
        ("{p}最爱吃{v}。", "{p}最喜欢的菜是{v}。"),
        ("{p}最爱吃什么？", "{p}最喜欢的菜是什么？"),
        ("饺子", "面条", "烤鸭", "豆腐", "火锅", "红烧肉", "包子", "蛋炒饭"),
    ),
}


class Language(NamedTuple):
    """What passages of a language are made of."""

    facts: dict[str, Fact]
    names: tuple[str, ...]
    space: str
    seed: str


LANGUAGES: Final = {
    "english": Language(ENGLISH, ENGLISH_NAMES, " ", "questions"),
    "chinese": Language(CHINESE, CHINESE_NAMES, "", "wenti"),
}


def passage(
    language: Language, draw: random.Random, may_say: Callable[[str, str], bool]
) -> tuple[str, dict[tuple[str, str], str]]:
    """A text about two or three people, and its facts by person and kind; only facts that `may_say` allows."""
    facts: dict[tuple[str, str], str] = {}
    sentences = []
    for person in draw.sample(language.names, draw.choice((2, 2, 2, 3))):
        for kind in draw.sample(list(language.facts), draw.choice((1, 2, 2, 3))):
            fact = language.facts[kind]
            value = draw.choice([value for value in fact.values if may_say(person, value)] or [""])
            if value:
                facts[person, kind] = value
                sentences.append(draw.choice(fact.told).replace("{p}", person).replace("{v}", value))
    return language.space.join(sentences), facts


def held_out(person: str, value: str) -> bool:
    """Whether no training passage may say this of this person."""
    return is_held_out(person, value, every=HELDOUT_EVERY)


def records(language: Language, count: int, heldout: bool, draw: random.Random) -> list[dict[str, Any]]:
    """Questions of one split."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        text, facts = passage(language, draw, lambda *fact: heldout or not held_out(*fact))
        asked = [(key, value) for key, value in facts.items() if not heldout or held_out(key[0], value)]
        for (person, kind), value in draw.sample(asked, min(2, len(asked))):
            question = draw.choice(language.facts[kind].asked).replace("{p}", person)
            found.append({"context": text, "question": question, "answers": [value], "answer": value, "kind": kind})
    return found[:count]


def build() -> dict[str, list[str]]:
    """Lines of each file."""
    files: dict[str, list[str]] = {}
    texts: dict[str, list[str]] = {}
    for name, language in LANGUAGES.items():
        draw = random.Random(language.seed)
        train = records(language, TRAIN[name], False, draw)
        for record in train:
            said = f"{record['question']}{language.space}{record['answer']}{'。' if language.space == '' else '.'}"
            texts.setdefault(record["context"], []).append(said)
        files[f"{name}-train.jsonl"] = lines_of(train)
        files[f"{name}-heldout.jsonl"] = lines_of(records(language, HELDOUT[name], True, draw))
    documents = [
        {"id": f"passage/{number}", "text": "\n".join([text, *said])}
        for number, (text, said) in enumerate(texts.items())
    ]
    return {**files, "text.jsonl": lines_of(documents)}


if __name__ == "__main__":
    write(HERE, build())
