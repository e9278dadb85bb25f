"""Conversations between a customer and the service of a shop and restaurant, made by a grammar, for
`recipes/dialogue-mini.yaml`.

    python data/dialogues/build.py

    train.jsonl            {"messages": [...]}: whole conversations
    heldout-turns.jsonl    {"messages": [...], "kind", "task"}: conversations up to each turn of the service, which is
                           to be said
    heldout-tasks.jsonl    {"history": [...], "required": [...]}: up to the customer's turn after which the service has
                           to confirm everything, with all that it has to repeat
    text.jsonl             the training conversations as running text

The service says again what it was told, asks for the first thing that it does not know yet and confirms when it knows
all, so its next turn is never a matter of taste. Combinations of all that a customer tells are held out: one in eight
is in no training text. (Of only two things, such as six people on Friday, a model learns that they never meet.)
All is synthetic.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from data.drawn import is_held_out, lines_of, write  # noqa: E402

TRAIN, HELDOUT, HELDOUT_EVERY = 3000, 80, 8


class Slot(NamedTuple):
    """A thing that the service has to know: how it asks, how a customer says it (when asked, or unasked), and how the
    service says that it heard it."""

    asked: str
    said: tuple[str, ...]
    beside: str
    noted: str
    values: tuple[str, ...]


class Service(NamedTuple):
    """What a customer may want: first words, what has to be known, in order, and how it is confirmed."""

    opening: tuple[str, ...]
    slots: Mapping[str, Slot]
    confirmed: str


DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
ITEMS: Final = (
    "lamp",
    "blue kettle",
    "chair",
    "radio",
    "garden table",
    "winter coat",
    "camera",
    "clock",
    "rucksack",
    "desk",
    "mirror",
    "toaster",
)
ORDER: Final = Slot(
    "What is the number of your order?",
    ("It is {v}.", "The number is {v}.", "Order {v}.", "{v}"),
    "the order is {v}",
    "Order {v}, thank you.",
    tuple(str(number) for number in range(1004, 9900, 89)),
)
STREETS: Final = tuple(
    f"{number} {street}"
    for street in ("Mill Road", "High Street", "Park Lane", "Station Road", "River Walk", "Church Hill")
    for number in (2, 5, 8, 11, 14, 17, 20, 23)
)

SERVICES: Final = {
    "return": Service(
        (
            "I want to send something back.",
            "I would like to return something.",
            "Hello, how can I return a thing I bought?",
        ),
        {
            "item": Slot(
                "I am sorry to hear that. What would you like to return?",
                ("The {v}.", "It is the {v}.", "I bought a {v} and want to return it."),
                "it is the {v}",
                "The {v}, I see.",
                ITEMS,
            ),
            "problem": Slot(
                "What is wrong with it?",
                ("It is {v}.", "Sadly it is {v}."),
                "it is {v}",
                "So it is {v}.",
                ("broken", "too small", "too big", "the wrong colour", "too loud", "not what I wanted"),
            ),
            "order": ORDER,
            "wish": Slot(
                "Would you like your money back or a new one?",
                ("I would like {v}, please.", "Please, {v}."),
                "I would like {v}",
                "You would like {v}.",
                ("my money back", "a new one"),
            ),
        },
        "Thank you. I have noted the return of the {item} of order {order}: it is {problem}, "
        "and you would like {wish_back}.",
    ),
    "table": Service(
        (
            "I would like to book a table.",
            "Can I reserve a table?",
            "Good evening, we would like to eat at your restaurant.",
        ),
        {
            "people": Slot(
                "For how many people?",
                ("For {v}.", "We are {v}.", "{v} people."),
                "we are {v}",
                "A table for {v}, gladly.",
                ("two", "three", "four", "five", "six", "seven", "eight"),
            ),
            "day": Slot(
                "On which day?", ("On {v}.", "{v}, please.", "We want to come on {v}."), "on {v}", "On {v}, good.", DAYS
            ),
            "time": Slot(
                "At what time?",
                ("At {v}.", "{v} would be good."),
                "at {v}",
                "At {v}, good.",
                ("12:00", "12:30", "13:00", "18:00", "18:30", "19:00", "19:30", "20:00"),
            ),
            "name": Slot(
                "Under which name?",
                ("{v}.", "My name is {v}.", "Under {v}, please."),
                "my name is {v}",
                "Thank you.",
                (
                    "Baker",
                    "Novak",
                    "Rossi",
                    "Chen",
                    "Silva",
                    "Olsen",
                    "Meyer",
                    "Dubois",
                    "Kovacs",
                    "Haddad",
                    "Tanaka",
                    "Murphy",
                ),
            ),
        },
        "Your table for {people} is booked for {day} at {time} under the name {name}.",
    ),
    "address": Service(
        ("I have moved.", "I need to change the address of a delivery.", "Can you send my order to another address?"),
        {
            "order": ORDER,
            "street": Slot(
                "What is the new street and number?",
                ("{v}.", "It is {v}.", "I live at {v} now."),
                "the new address is {v}",
                "{v}, good.",
                STREETS,
            ),
            "town": Slot(
                "In which town?",
                ("In {v}.", "{v}."),
                "the town is {v}",
                "Thank you.",
                ("Bristol", "Dublin", "Leeds", "Oxford", "York", "Cardiff", "Boston", "Salem", "Perth", "Derby"),
            ),
        },
        "Thank you. We will send order {order} to {street}, {town}.",
    ),
    "delivery": Service(
        (
            "When can you bring my order?",
            "I would like to choose a day for my delivery.",
            "Hello, I want to arrange a delivery.",
        ),
        {
            "order": ORDER,
            "day": Slot(
                "Which day would suit you?",
                ("{v} is best.", "On {v}, please.", "{v}."),
                "{v} would suit me",
                "On {v}, good.",
                DAYS,
            ),
            "part": Slot(
                "In the morning, in the afternoon or in the evening?",
                ("In the {v}.", "The {v} is fine."),
                "the {v} is best",
                "Good.",
                ("morning", "afternoon", "evening"),
            ),
        },
        "Good. We will bring order {order} on {day} in the {part}.",
    ),
}

THANKS: Final = ("Thank you, that is all.", "Thanks, goodbye.", "Great, thank you very much.")
GOODBYE: Final = "You are welcome. Have a nice day!"
SYSTEM: Final = "You are the customer service of a shop with a restaurant. Be short and polite."


def capital(text: str) -> str:
    """With its first letter as at the start of a sentence."""
    return text[0].upper() + text[1:]


def shown(values: Mapping[str, str]) -> dict[str, str]:
    """Values as the service says them."""
    return {**values, "wish_back": values.get("wish", "").replace("my money", "your money")}


def conversation(service: Service, values: Mapping[str, str], draw: random.Random) -> list[dict[str, str]]:
    """All turns: the customer may say several things at once, the service asks for the first that is missing."""
    known: set[str] = set()
    messages = [{"role": "system", "content": SYSTEM}]

    def also(share: float) -> str:
        """Some more that the customer says without being asked."""
        told = [name for name in service.slots if name not in known and draw.random() < share]
        known.update(told)
        parts = [service.slots[name].beside.replace("{v}", values[name]) for name in told]
        text = " and ".join(parts)
        return f" {capital(text)}." if text else ""

    said, heard = draw.choice(service.opening), ""
    said += also(0.2)
    while missing := next((name for name in service.slots if name not in known), None):
        slot = service.slots[missing]
        messages += [{"role": "user", "content": said}, {"role": "assistant", "content": f"{heard}{slot.asked}"}]
        known.add(missing)
        said = capital(draw.choice(slot.said).replace("{v}", values[missing]))
        said += also(0.1)
        heard = slot.noted.replace("{v}", values[missing]) + " "
    confirmed = service.confirmed.format(**shown(values)) + " Is there anything else?"
    messages += [{"role": "user", "content": said}, {"role": "assistant", "content": confirmed}]
    return [*messages, {"role": "user", "content": draw.choice(THANKS)}, {"role": "assistant", "content": GOODBYE}]


def drawn(heldout: bool, draw: random.Random) -> tuple[str, dict[str, str], list[dict[str, str]]]:
    """What is wanted, its values, and a conversation about it, of one split."""
    while True:
        kind = draw.choice(list(SERVICES))
        values = {name: draw.choice(slot.values) for name, slot in SERVICES[kind].slots.items()}
        if is_held_out(kind, *values.values(), every=HELDOUT_EVERY) == heldout:
            return kind, values, conversation(SERVICES[kind], values, draw)


def turns_of(kind: str, messages: list[dict[str, str]]) -> list[dict[str, Any]]:
    """The conversation up to each turn of the service."""
    ends = [at for at, message in enumerate(messages) if message["role"] == "assistant"]
    steps = [*["ask"] * (len(ends) - 2), "confirm", "goodbye"]
    return [{"messages": messages[: end + 1], "kind": kind, "task": step} for end, step in zip(ends, steps)]


def build() -> dict[str, list[str]]:
    """Lines of each file."""
    draw = random.Random("dialogues")
    train = [drawn(False, draw) for _ in range(TRAIN)]
    heldout = [drawn(True, draw) for _ in range(HELDOUT)]
    who = {"system": "Service", "user": "Customer", "assistant": "Service"}
    texts = [
        "\n".join(f"{who[message['role']]}: {message['content']}" for message in messages[1:])
        for _, _, messages in train
    ]
    return {
        "train.jsonl": lines_of({"messages": messages} for _, _, messages in train),
        "heldout-turns.jsonl": lines_of(turn for kind, _, messages in heldout for turn in turns_of(kind, messages)),
        "heldout-tasks.jsonl": lines_of(
            {"history": messages[:-3], "required": required(kind, values), "kind": kind}
            for kind, values, messages in heldout
        ),
        "text.jsonl": lines_of({"id": f"conversation/{number}", "text": text} for number, text in enumerate(texts)),
    }


def required(kind: str, values: Mapping[str, str]) -> list[str]:
    """What the service has to say when it confirms."""
    said = shown(values)
    return [said["wish_back"] if name == "wish" else said[name] for name in SERVICES[kind].slots]


if __name__ == "__main__":
    write(HERE, build())
