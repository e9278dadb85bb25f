"""Little stories, each with the prompt that asks for it, made by a grammar, for `recipes/story-mini.yaml`.

    python data/stories/build.py

    train.jsonl, heldout.jsonl    {"prompt": ..., "story": ..., "words": [...]}; words: what a story has to be about
    text.jsonl                    the stories of train.jsonl as documents
    heldout-text.jsonl            held-out stories as documents, for bits per byte

A story has a hero, a place, a thing and a friend, and one of six plots with several wordings of each sentence. Hero and
thing are held out as a combination: one in eight is in no training text. All is synthetic.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any, Final

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from data.drawn import is_held_out, lines_of, write  # noqa: E402

TRAIN, HELDOUT, HELDOUT_EVERY = 6000, 200, 8

HEROES: Final = (
    "fox",
    "hedgehog",
    "mouse",
    "owl",
    "rabbit",
    "badger",
    "squirrel",
    "duck",
    "cat",
    "goat",
    "frog",
    "beaver",
    "crow",
    "donkey",
)
NAMES: Final = ("Tilda", "Bruno", "Mina", "Otto", "Pip", "Greta", "Jonas", "Fina", "Rufus", "Lotta", "Emil", "Wanda")
PLACES: Final = (
    "in the forest",
    "by the lake",
    "on the hill",
    "in the old mill",
    "near the village",
    "on a small island",
    "under the big oak",
    "in the meadow",
)
THINGS: Final = (
    "key",
    "red hat",
    "map",
    "silver bell",
    "lamp",
    "wooden boat",
    "kite",
    "letter",
    "blue cup",
    "drum",
    "clock",
    "golden ring",
)
FEELINGS: Final = (("sad", "happy"), ("angry", "calm"), ("afraid", "brave"), ("lonely", "glad"))
WEATHER: Final = (
    "One sunny morning",
    "One rainy day",
    "One cold evening",
    "One windy afternoon",
    "On a quiet Sunday",
    "One night in spring",
)

OPENINGS: Final = (
    "Once upon a time there was {a} {h} called {N} who lived {p}.",
    "{N} was {a} {h} and lived {p}.",
    "There once lived {a} {h} {p}. The name of the {h} was {N}.",
)
ENDINGS: Final = (
    "From that day on {N} and {M} were the best of friends.",
    "That night {N} fell asleep and was very {good}.",
    "And {N} never forgot what {M} had done.",
    "Then they ate a large cake together and laughed.",
    "{N} was no longer {bad}, but {good}.",
)
PLOTS: Final = {
    "lost": (
        ("{w}, {N} could not find the {x}.", "{w}, {N} saw that the {x} was gone."),
        (
            "{N} looked under the bed, behind the door and in the garden, but the {x} was not there.",
            "All day long {N} looked for the {x} and grew {bad}.",
        ),
        (
            'Then {M} the {f} came by. "I will help you," said {M}.',
            "{M} the {f} heard {N} cry and asked what had happened.",
        ),
        (
            "Together they found the {x} under a stone.",
            "In the end it was {M} who found the {x} in a tree.",
            "At last they saw the {x} lying in the grass.",
        ),
    ),
    "found": (
        ("{w}, {N} found a {x} on the path.", "{w}, a {x} lay in front of the house of {N}."),
        ('"Whose is it?" {N} asked. Nobody knew.', "{N} asked everybody, but nobody had lost a {x}."),
        (
            'Then {M} the {f} came running and was very {bad}. "My {x} is gone!"',
            "Far away sat {M} the {f}, {bad} and alone, and was looking for a {x}.",
        ),
        ("{N} gave the {x} back at once.", '"Here it is," said {N} and held out the {x}. {M} danced with joy.'),
    ),
    "storm": (
        ("{w}, a great storm came.", "{w}, the sky turned black and the wind began to howl."),
        ("The wind took the {x} of {N} and carried it away.", "{N} was {bad} and held the {x} as tightly as possible."),
        ('"Come into my house!" cried {M} the {f}.', "Then {M} the {f} opened a door and called {N} in."),
        (
            "When the storm was over, the {x} lay before the door.",
            "They sat by the fire with the {x} between them until the sun came back.",
        ),
    ),
    "gift": (
        ("{w}, {N} wanted to give something to {M} the {f}.", "{w}, it was the birthday of {M} the {f}."),
        ("But {N} had nothing except a {x}.", "{N} had only one thing of value: a {x}."),
        ('"I cannot give it away," thought {N} and was {bad}.', "{N} thought about it for a long time."),
        (
            "Then {N} put the {x} into a box and took it to {M}.",
            "In the end {N} gave the {x} away, and {M} was so happy that both of them sang.",
        ),
    ),
    "quarrel": (
        ("{w}, {N} and {M} the {f} quarrelled about a {x}.", "{w}, {N} and {M} the {f} both wanted the same {x}."),
        ('"It is mine!" cried {N}. "No, mine!" cried {M}.', "They pulled at the {x} until it fell into the mud."),
        ("Both went home and were {bad}.", "For three days they did not say a word."),
        (
            'Then {N} said, "Let us share the {x}."',
            'On the fourth day {N} knocked at the door. "Take the {x}," said {N}, "you are my friend."',
        ),
    ),
    "journey": (
        (
            "{w}, {N} set out to see the world and took only a {x} along.",
            "{w}, {N} packed a {x} and went on a long journey.",
        ),
        ("Behind the seventh hill {N} lost the way and was {bad}.", "After two days it grew dark, and {N} was {bad}."),
        (
            'There sat {M} the {f}. "Show me your {x}," said {M}, "and I will show you the way."',
            "Then {M} the {f} saw the {x} from far away and came closer.",
        ),
        (
            "Thanks to the {x} they found the way home.",
            "They walked home together, and {M} was allowed to carry the {x}.",
        ),
    ),
}
PROMPTS: Final = (
    "Write a story about {a} {h} and a {x}.",
    "Tell me a story about {a} {h} with a {x}, {p}.",
    "Write a short story about {N} the {h} and a {x}.",
    "Please write a story {p} with {a} {h} and a {x}.",
)


def article(noun: str) -> str:
    """a or an."""
    return "an" if noun[0] in "aeiou" else "a"


def story(draw: random.Random) -> tuple[dict[str, Any], bool]:
    """A prompt with its story, and whether it is held out."""
    hero, friend = draw.sample(HEROES, 2)
    name, other = draw.sample(NAMES, 2)
    bad, good = draw.choice(FEELINGS)
    words = {
        "h": hero,
        "f": friend,
        "N": name,
        "M": other,
        "x": draw.choice(THINGS),
        "p": draw.choice(PLACES),
        "a": article(hero),
        "w": draw.choice(WEATHER),
        "bad": bad,
        "good": good,
    }
    asked = draw.choice(PROMPTS)
    parts = [OPENINGS, *PLOTS[draw.choice(list(PLOTS))], ENDINGS]
    text = " ".join(draw.choice(part).format(**words) for part in parts)
    named = [words[key] for key in ("h", "x", "N") if f"{{{key}}}" in asked] + ([words["p"]] if "{p}" in asked else [])
    record = {"prompt": asked.format(**words), "story": text, "words": named}
    return record, is_held_out(hero, words["x"], every=HELDOUT_EVERY)


def build() -> dict[str, list[str]]:
    """Lines of each file."""
    draw = random.Random("stories")
    found: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    while len(found[False]) < TRAIN or len(found[True]) < HELDOUT:
        record, heldout = story(draw)
        found[heldout].append(record)
    chosen = {"train": found[False][:TRAIN], "heldout": found[True][:HELDOUT]}
    files = {f"{split}.jsonl": lines_of(records) for split, records in chosen.items()}
    for split, name in (("train", "text.jsonl"), ("heldout", "heldout-text.jsonl")):
        files[name] = lines_of(
            {"id": f"story/{split}/{at}", "text": record["story"]} for at, record in enumerate(chosen[split])
        )
    return files


if __name__ == "__main__":
    write(HERE, build())
