"""Texts that end an answer, looked for while it is generated, and cut off behind.

Invariant: `before` of all ids is the same whether generation ended at once or went on.
"""

from __future__ import annotations

from collections.abc import Sequence

from groundup.tokens import Tokenizer


class StopTexts:
    """The stop texts of a task."""

    def __init__(self, texts: Sequence[str], tokenizer: Tokenizer) -> None:
        self._texts, self._tokenizer = tuple(texts), tokenizer
        # A token stands for at least a byte (control tokens aside, which end the answer), so this many are enough.
        self._tokens = max((len(text.encode()) for text in texts), default=0) + 1

    def found(self, ids: Sequence[int]) -> bool:
        """Whether the last token completed a stop text."""
        tail = self._tokenizer.decode(ids[-self._tokens :])
        return any(text in tail for text in self._texts)

    def before(self, text: str) -> str:
        """What stands before the first of them."""
        places = [place for stop in self._texts if (place := text.find(stop)) >= 0]
        return text[: min(places)] if places else text
