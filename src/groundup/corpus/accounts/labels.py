"""What is said of documents in words, such as languages and licences, as small numbers that fit into their rows.

Invariant: a table has at most LABEL_LIMIT names, whatever the documents say; the numbers depend on the documents of one
part and their order only.
"""

from __future__ import annotations

from groundup.errors import printable

LABEL_LIMIT = 1 << 10
NOT_GIVEN, OTHER = "not given", "other"
_CHARACTERS = 120


class Labels:
    """Names in the order in which they came; those that come when the table is full count as OTHER."""

    def __init__(self) -> None:
        self.names = [NOT_GIVEN, OTHER]
        self._numbers = {"": 0, NOT_GIVEN: 0, OTHER: 1}

    def number(self, value: object) -> int:
        """Number of a name; 0 for what is no text or empty."""
        if not isinstance(value, str):
            return 0
        known = self._numbers.get(value)
        return self._add(value) if known is None else known

    def _add(self, value: str) -> int:
        name = " ".join(printable(value[:_CHARACTERS]).split())
        known = self._numbers.get(name)
        if known is None:
            known = 1
            if len(self.names) < LABEL_LIMIT:
                known = self._numbers[name] = len(self.names)
                self.names.append(name)
        if len(self._numbers) < 4 * LABEL_LIMIT:
            self._numbers[value] = known
        return known
