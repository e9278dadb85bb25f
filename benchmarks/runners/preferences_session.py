"""What both runners of the comparison of preferences make alike, with Python alone."""

from __future__ import annotations

import random

ANSWER_TOKENS = 6


def judged_answers(pairs: list[dict[str, str]]) -> list[dict[str, object]]:
    """Single answers for KTO: the better ones of even pairs as good, the worse ones of odd pairs as bad."""
    return [
        {"prompt": each["prompt"], "completion": each["rejected" if number % 2 else "chosen"], "label": not number % 2}
        for number, each in enumerate(pairs)
    ]


def one_length(step: int, count: int, vocab_size: int) -> list[dict[str, list[int]]]:
    """Pairs of ids for ORPO: a prompt of one token, answers of one length."""
    drawn = random.Random(step)

    def ids(number: int) -> list[int]:
        return [drawn.randrange(16, vocab_size) for _ in range(number)]

    return [{"prompt": ids(1), "chosen": ids(ANSWER_TOKENS), "rejected": ids(ANSWER_TOKENS)} for _ in range(count)]
