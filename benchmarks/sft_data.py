"""Conversations -> the ids and labels that every tool of the comparison of instruction tuning gets.

    records --Groundup's reader--> conversations --the base's tokenizer, its template--> {input_ids, labels}

Invariant: labels are the ids of what the assistant says (its stop token included), -100 elsewhere; no tool sees text.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from groundup.tokens import InstructSourceConfig, Tokenizer, read_conversations
from groundup.tokens.template import encode_conversations

IGNORE = -100


def prepare(base: Path, train: Iterable[Path], heldout: Iterable[Path], length: int, limit: int, folder: Path) -> None:
    """Write train.json, heldout.json and facts.json; conversations of more than `length` tokens are left out."""
    tokenizer = Tokenizer.load(base)
    folder.mkdir(parents=True, exist_ok=True)
    facts: dict[str, Any] = {"pad_id": tokenizer.end_of_text_id, "length": length}
    for side, files in (("train", train), ("heldout", heldout)):
        found = [each for file in files for each in examples(file, tokenizer)]
        kept = evenly([each for each in found if len(each["input_ids"]) <= length], limit)
        (folder / f"{side}.json").write_text(json.dumps(kept))
        facts[side] = {
            "conversations": len(kept),
            "too_long": sum(len(each["input_ids"]) > length for each in found),
            "tokens": sum(len(each["input_ids"]) for each in kept),
            "targets": sum(label != IGNORE for each in kept for label in each["labels"]),
        }
    (folder / "facts.json").write_text(json.dumps(facts))


def examples(file: Path, tokenizer: Tokenizer) -> list[dict[str, list[int]]]:
    """All conversations of a file, encoded."""
    source = InstructSourceConfig(name=file.name.split(".")[0].replace("_", "-"), path=str(file))
    turns = [conversation.turns for conversation in read_conversations(source, Path.cwd())]
    encoded = itertools.chain.from_iterable(
        encode_conversations(tokenizer, turns[at : at + 512]) for at in range(0, len(turns), 512)
    )
    return [
        {
            "input_ids": list(each.ids),
            "labels": [i if target else IGNORE for i, target in zip(each.ids, each.is_target)],
        }
        for each in encoded
    ]


def evenly(items: list[Any], limit: int) -> list[Any]:
    """At most `limit` of them, over the whole list."""
    return items if len(items) <= limit else [items[number * len(items) // limit] for number in range(limit)]
