"""Why a record is no item of its task."""

from __future__ import annotations


class Refused(Exception):
    """A record that cannot be asked: why, and what there is instead."""

    def __init__(self, reason: str, found: str = "") -> None:
        super().__init__(reason)
        self.reason, self.found = reason, found
