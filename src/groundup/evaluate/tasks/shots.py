"""Solved examples of a task -> those that stand in front of an item.

Invariant: an item is never its own example, also where the same question stands in the file twice; which examples an
item gets depends on the seed and its id only.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from itertools import islice

import numpy as np

from groundup.errors import DataError
from groundup.evaluate.tasks.config import FewShotConfig
from groundup.evaluate.tasks.items import Item

POOL_LIMIT = 10_000
"""Examples are drawn from at most so many, the first of the file."""


class Shots:
    """The examples of a task. Raises DataError when there are too few."""

    def __init__(self, config: FewShotConfig, items: Iterable[Item], name: str) -> None:
        self._config = config
        pool = (item.solved for item in items if item.gold is not None)
        # One more than is shown, for an item that is among them itself.
        size = POOL_LIMIT if config.order == "drawn" else config.count + 1
        self._pool = list(dict.fromkeys(islice(pool, size)))
        if len(self._pool) < config.count:
            raise DataError(
                f"evaluate.tasks '{name}': few_shot.count {config.count}, but there are {len(self._pool)} examples; "
                "lower it or give few_shot.path"
            )

    def of(self, item: Item) -> tuple[tuple[str, str], ...]:
        """The examples before an item: (question, answer)."""
        count, pool = self._config.count, self._pool
        if self._config.order == "first":
            order = range(len(pool))
        else:
            generator = np.random.default_rng([self._config.seed, zlib.crc32(item.id.encode())])
            order = generator.permutation(len(pool))[: count + item.size].tolist()
        own = {item.pair(index)[0] for index in range(item.size)}
        found = [pool[place] for place in order if pool[place][0] not in own]
        if len(found) < count:
            found = [solved for solved in pool if solved[0] not in own]
        return tuple(found[:count])
