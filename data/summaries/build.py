"""News items of a small invented region with a headline each, made by a grammar, for `recipes/summarise-mini.yaml`.

    python data/summaries/build.py

    train.jsonl, heldout.jsonl    {"article": ..., "highlights": ...}, fields as CNN/DailyMail has them
    text.jsonl                    the articles of train.jsonl as documents

An article tells one event in four or five sentences, of which some matter and some are about weather, traffic or who
said what; the highlights say in one sentence what happened, where and with which number. Where something happened with
what is held out as a combination: one in eight is in no training text. All is synthetic.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from data.drawn import is_held_out, lines_of, write  # noqa: E402

TRAIN, HELDOUT, HELDOUT_EVERY = 6000, 300, 8


class Event(NamedTuple):
    """A kind of event: first sentences, sentences that add something that matters, what is said of it, its subjects."""

    lead: tuple[str, ...]
    more: tuple[str, ...]
    highlights: str
    subjects: tuple[str, ...]


TOWNS: Final = (
    "Ashford",
    "Brookside",
    "Carlow",
    "Denham",
    "Eastport",
    "Fairview",
    "Glenwood",
    "Hartley",
    "Kingsbury",
    "Lakewood",
    "Milton",
    "Newport",
    "Oakdale",
    "Redhill",
    "Sandwell",
    "Thornton",
    "Westbay",
    "Whitby",
)
NAMES: Final = (
    "Mr Price",
    "Mrs Lane",
    "Ms Ortega",
    "Mr Holm",
    "Mrs Weber",
    "Ms Adams",
    "Mr Silva",
    "Mrs Khan",
    "Mr Novak",
    "Ms Brandt",
)
DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NUMBERS: Final = (
    "12",
    "15",
    "20",
    "30",
    "40",
    "50",
    "60",
    "80",
    "100",
    "150",
    "200",
    "300",
    "400",
    "500",
    "600",
    "800",
)

EVENTS: Final = (
    Event(
        (
            "A new {s} was opened in {t} on {d}.",
            "On {d} the people of {t} celebrated the opening of a new {s}.",
            "{t} has had a new {s} since {d}.",
        ),
        ("It cost {n} million crowns.", "The town paid {n} million crowns for it."),
        "{t} opens a new {s} for {n} million crowns.",
        ("bridge", "library", "school", "museum", "theatre", "market hall", "swimming pool", "hospital"),
    ),
    Event(
        ("A {s} hit {t} on {d}.", "On {d} {t} was struck by a {s}.", "A {s} reached {t} late on {d}."),
        ("It damaged {n} houses.", "{n} houses lost their roofs.", "Afterwards {n} houses could not be lived in."),
        "A {s} damages {n} houses in {t}.",
        ("storm", "flood", "fire", "snowstorm", "landslide", "tornado"),
    ),
    Event(
        (
            "The {s} team of {t} won the cup on {d}.",
            "On {d} the cup went to the {s} team of {t}.",
            "The {s} players of {t} became champions on {d}.",
        ),
        ("They were cheered by {n} people.", "{n} people watched the final."),
        "The {s} team of {t} wins the cup before {n} people.",
        ("football", "hockey", "chess", "tennis", "rowing", "basketball"),
    ),
    Event(
        (
            "Children found {s} in a field near {t} on {d}.",
            "In {t} workers dug up {s} on {d}.",
            "{s} came to light in {t} on {d}.",
        ),
        ("They are {n} years old.", "Experts say that they are {n} years old."),
        "{n} years old: {s} found in {t}.",
        ("silver coins", "old letters", "clay pots", "gold rings", "old maps", "iron swords"),
    ),
    Event(
        (
            "The {s} of {t} stopped work on {d}.",
            "In {t} the {s} have been on strike since {d}.",
            "On {d} the {s} of {t} went on strike.",
        ),
        ("They ask for {n} crowns more a month.", "They want their pay to rise by {n} crowns."),
        "The {s} of {t} strike for {n} crowns more.",
        ("bus drivers", "teachers", "nurses", "bakers", "postmen", "miners"),
    ),
    Event(
        ("A {s} escaped from the zoo of {t} on {d}.", "On {d} a {s} ran away from the zoo of {t}."),
        ("It was caught after {n} minutes.", "After {n} minutes it was back in its cage."),
        "A {s} escapes in {t} and is caught after {n} minutes.",
        ("tiger", "monkey", "camel", "zebra", "bear", "wolf"),
    ),
)
ASIDE: Final = (
    "It was a cold and windy day.",
    "The sun was shining all day.",
    "Heavy rain had fallen in the morning.",
    '"We had not expected this," said {p}.',
    '"I will never forget this day," said {p}.',
    '"Everybody here is talking about it," {p} told this newspaper.',
    "The main road was closed for {k} hours.",
    "The mayor, {p}, came by bicycle.",
    "Photographs are on show in the town hall.",
    "Trains ran {k} minutes late.",
    "The local radio reported on it for {k} hours.",
    "{p} thanked all who had helped.",
)


def capital(text: str) -> str:
    """With its first letter as at the start of a sentence."""
    return text[0].upper() + text[1:]


def item(draw: random.Random) -> tuple[dict[str, Any], bool]:
    """An article with its highlights, and whether it is held out."""
    event = draw.choice(EVENTS)
    words = {
        "s": draw.choice(event.subjects),
        "t": draw.choice(TOWNS),
        "n": draw.choice(NUMBERS),
        "d": draw.choice(DAYS),
    }
    asides = [
        text.format(p=draw.choice(NAMES), k=draw.choice(("two", "three", "five", "ten")))
        for text in draw.sample(ASIDE, draw.choice((2, 3, 3)))
    ]
    rest = [draw.choice(event.more).format(**words), *asides]
    draw.shuffle(rest)
    article = " ".join([capital(draw.choice(event.lead).format(**words)), *map(capital, rest)])
    heldout = is_held_out(words["s"], words["t"], every=HELDOUT_EVERY)
    return {"article": article, "highlights": capital(event.highlights.format(**words))}, heldout


def build() -> dict[str, list[str]]:
    """Lines of each file."""
    draw = random.Random("summaries")
    found: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    while len(found[False]) < TRAIN or len(found[True]) < HELDOUT:
        record, heldout = item(draw)
        found[heldout].append(record)
    train, heldout = found[False][:TRAIN], found[True][:HELDOUT]
    documents = [{"id": f"article/{number}", "text": record["article"]} for number, record in enumerate(train)]
    return {"train.jsonl": lines_of(train), "heldout.jsonl": lines_of(heldout), "text.jsonl": lines_of(documents)}


if __name__ == "__main__":
    write(HERE, build())
