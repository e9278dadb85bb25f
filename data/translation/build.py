"""English and Chinese sentences that mean the same, made by a grammar, for `recipes/translation-mini.yaml`.

    python data/translation/build.py

    pairs-train.jsonl, pairs-heldout.jsonl    {"en": ..., "zh": ...}, as parallel corpora are published
    text.jsonl                                sentences of the train pairs, in each language by itself, as documents

Which person does what with which thing, and who goes to which country or what has which price, is held out as a
combination: one in ten is in no training text in either language. All words occur in training. All is synthetic.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from data.drawn import is_held_out, lines_of, write  # noqa: E402
from data.translation import phrases  # noqa: E402

TRAIN, HELDOUT = 9000, 400
SENTENCES_OF_DOCUMENT = 8
Pair = tuple[str, str, bool]
"""English, Chinese, whether it is held out."""


def capital(text: str) -> str:
    """With its first letter as at the start of a sentence."""
    return text[0].upper() + text[1:]


def of_action(draw: random.Random) -> Pair:
    """Who does what, where and when."""
    person, someone = draw.choice(list(phrases.PEOPLE.items()))
    verb, things = draw.choice(phrases.ACTIONS)
    thing = draw.choice(things)
    place, somewhere = draw.choice(list(phrases.PLACES.items()))
    habit, often = draw.choice(list(phrases.HABITS.items()))
    past, before = draw.choice(list(phrases.PAST.items()))
    future, later = draw.choice(list(phrases.FUTURE.items()))
    what, said = thing.english, verb.chinese
    forms = (
        (f"{person} {verb.third} {what} {place} {habit}.", f"{someone}{often}{somewhere}{said}{thing.bare}。"),
        (f"{past}, {person} {verb.past} {what} {place}.", f"{before}{someone}{somewhere}{said}了{thing.measured}。"),
        (f"{person} will {verb.base} {what} {future}.", f"{someone}{later}会{said}{thing.measured}。"),
        (f"{person} does not {verb.base} {what} {place}.", f"{someone}不{somewhere}{said}{thing.bare}。"),
        (f"does {person} {verb.base} {what} {habit}?", f"{someone}{often}{said}{thing.bare}吗？"),
        (f"{person} wants to {verb.base} {what} {place}.", f"{someone}想{somewhere}{said}{thing.measured}。"),
        (f"did {person} {verb.base} {what} {past}?", f"{someone}{before}{said}{thing.bare}了吗？"),
    )
    english, chinese = draw.choice(forms)
    return capital(english), chinese, is_held_out(person, verb.base, what)


def of_country(draw: random.Random) -> Pair:
    """Where someone comes from or goes, and seasons of a country."""
    person, someone = draw.choice(list(phrases.PEOPLE.items()))
    country, land = draw.choice(list(phrases.COUNTRIES.items()))
    future, later = draw.choice(list(phrases.FUTURE.items()))
    past, before = draw.choice(list(phrases.PAST.items()))
    season, time = draw.choice(list(phrases.SEASONS.items()))
    forms = (
        (f"{person} comes from {country}.", f"{someone}来自{land}。", person),
        (f"{person} will travel to {country} {future}.", f"{someone}{later}会去{land}旅行。", person),
        (f"{person} went to {country} {past}.", f"{someone}{before}去了{land}。", person),
        (f"{person} has never been to {country}.", f"{someone}从来没去过{land}。", person),
        (f"{season} in {country} is very beautiful.", f"{land}的{time}很美。", season),
    )
    english, chinese, who = draw.choice(forms)
    return capital(english), chinese, is_held_out(who, country)


def of_language(draw: random.Random) -> Pair:
    """Who speaks what."""
    person, someone = draw.choice(list(phrases.PEOPLE.items()))
    (first, one), (second, two) = draw.sample(list(phrases.LANGUAGES.items()), 2)
    forms = (
        (f"{person} speaks {first} and {second}.", f"{someone}会说{one}和{two}。"),
        (f"{person} speaks {first}, but not {second}.", f"{someone}会说{one}，但不会说{two}。"),
        (f"{person} wants to learn {first}.", f"{someone}想学{one}。"),
        (f"does {person} speak {first}?", f"{someone}会说{one}吗？"),
    )
    english, chinese = draw.choice(forms)
    return capital(english), chinese, is_held_out(person, first)


def of_price(draw: random.Random) -> Pair:
    """What something costs and how it is."""
    thing, ware = draw.choice(list(phrases.GOODS.items()))
    currency, money = draw.choice(list(phrases.CURRENCIES.items()))
    amount = draw.choice((*range(2, 20), *range(20, 100, 5), *range(100, 1000, 50)))
    adjective, how = draw.choice(list(phrases.ADJECTIVES.items()))
    forms = (
        (f"This {thing} costs {amount} {currency}.", f"这{ware}{amount}{money}。", str(amount)),
        (f"That {thing} costs {amount} {currency}.", f"那{ware}{amount}{money}。", str(amount)),
        (f"This {thing} is {adjective}.", f"这{ware}{how}。", adjective),
        (f"That {thing} is {adjective}.", f"那{ware}{how}。", adjective),
    )
    english, chinese, key = draw.choice(forms)
    return english, chinese, is_held_out(thing, key)


def pairs() -> Iterator[Pair]:
    """Pairs without end."""
    draw = random.Random("translation")
    kinds = (of_action, of_action, of_action, of_country, of_language, of_price)
    while True:
        yield draw.choice(kinds)(draw)


def build() -> dict[str, list[str]]:
    """Lines of each file."""
    train: dict[str, str] = {}
    heldout: dict[str, str] = {}
    for english, chinese, is_kept_out in pairs():
        (heldout if is_kept_out else train)[english] = chinese
        if len(train) >= TRAIN and len(heldout) >= HELDOUT:
            break
    kept = {"train": list(train.items())[:TRAIN], "heldout": list(heldout.items())[:HELDOUT]}
    files = {
        f"pairs-{split}.jsonl": lines_of({"en": english, "zh": chinese} for english, chinese in chosen)
        for split, chosen in kept.items()
    }
    draw, documents = random.Random("documents"), []
    for place, (language, space) in enumerate((("en", " "), ("zh", ""))):
        sentences = [pair[place] for pair in kept["train"]]
        draw.shuffle(sentences)
        for start in range(0, len(sentences), SENTENCES_OF_DOCUMENT):
            text = space.join(sentences[start : start + SENTENCES_OF_DOCUMENT])
            documents.append({"id": f"{language}/{start}", "text": text})
    return {**files, "text.jsonl": lines_of(documents)}


if __name__ == "__main__":
    write(HERE, build())
