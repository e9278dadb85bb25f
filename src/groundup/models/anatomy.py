"""A model -> a table of its parts: shape, parameters, FLOPs, memory, and how each count comes about.

    parameters of equal shape in several blocks become one row "layers.0-29.attention.query.weight  30 x [576, 576]"
    what has no parameters but costs time (attention's scores, a tied output matrix) has a row of its own

Invariant: the rows add up to `num_parameters` and `flops_per_token` of the model's config; nothing is allocated.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import torch
from torch import nn

from groundup.models.network import NetworkConfig

WEIGHT_BYTES = 4
"""Weights are float32 masters."""
_BLOCK = re.compile(r"^(.*?)\.(\d+)\.(.*)$")


@dataclass(frozen=True)
class Part:
    """One row: parameters of one name and shape, over all blocks that have them, or an operation without any."""

    name: str
    shape: tuple[int, ...]
    count: int
    parameters: int
    flops_per_token: int
    """Forward and backward of one token of a full context."""
    weight_bytes: int
    how: str
    """The count as arithmetic."""

    def row(self) -> tuple[str, str, str, str, str]:
        """For people: shape and arithmetic are one, "32 x [4096, 4096]", so that a large model fits 100 columns."""
        shape = "[" + ", ".join(map(str, self.shape)) + "]" if self.shape else ""
        blocks = f"{self.count} x {shape}" if shape and self.count > 1 else shape
        how = blocks if self.parameters else ", ".join(filter(None, (blocks, self.how.removeprefix("none; "))))
        return (self.name, f"{self.parameters:,}", compact(self.flops_per_token), size(self.weight_bytes), how)


@dataclass(frozen=True)
class Anatomy:
    """All rows, and their sums."""

    parts: tuple[Part, ...]
    cache_bytes_per_token: int
    """What generation keeps of one token in bfloat16: keys and values, or states; 0 where the model keeps nothing."""
    cache_bytes: int
    """The same of a full context."""
    context_length: int

    @property
    def parameters(self) -> int:
        """All parameters, tied ones once."""
        return sum(part.parameters for part in self.parts)

    @property
    def flops_per_token(self) -> int:
        """Forward and backward of one token at full context."""
        return sum(part.flops_per_token for part in self.parts)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        sums = {"parameters": self.parameters, "flops_per_token": self.flops_per_token}
        cache = {
            "cache_bytes_per_token": self.cache_bytes_per_token,
            "cache_bytes": self.cache_bytes,
            "context_length": self.context_length,
        }
        return {
            "parts": [asdict(part) for part in self.parts],
            **sums,
            "weight_bytes": WEIGHT_BYTES * self.parameters,
            **cache,
        }

    def lines(self) -> list[str]:
        """For people."""
        rows = [("part", "parameters", "FLOPs/token", "memory", "blocks x shape")]
        rows += [part.row() for part in self.parts]
        weights = WEIGHT_BYTES * self.parameters
        rows.append(("all", f"{self.parameters:,}", compact(self.flops_per_token), size(weights), ""))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        aligned = ((row[0].ljust(widths[0]), *map(str.rjust, row[1:4], widths[1:]), row[4]) for row in rows)
        lines = ["  ".join(row).rstrip() for row in aligned]
        lines += [
            "FLOPs/token: forward and backward at full context, 6 a weight of a matrix; memory: float32 weights.",
            f"Training holds {size(weights)} more for gradients, and what the optimizer keeps: {size(2 * weights)}",
            "with AdamW, half of that with momentum only.",
        ]
        token, whole = self.cache_bytes_per_token, self.cache_bytes
        if token and token == whole:
            lines.append(f"Generation keeps {size(whole)} of states (bfloat16), however long the text.")
        elif token:
            kept = f"{size(token)} of keys and values a token (bfloat16), {size(whole)} for a full context"
            lines.append(f"Generation keeps {kept}.")
        return lines


def model_anatomy(config: NetworkConfig, vocab_size: int) -> Anatomy:
    """The parts of such a model."""
    with torch.device("meta"):
        model = config.build(vocab_size)
    parts = [*parameter_parts(model, model.flops_per_weight)]
    parts += [
        Part(each.name, each.shape, each.count, 0, each.flops_per_token, 0, each.how) for each in model.operations()
    ]
    length = config.context_length
    return Anatomy(tuple(parts), config.cache_bytes(1, 1), config.cache_bytes(1, length), length)


def parameter_parts(model: nn.Module, flops_per_weight: Callable[[str], float]) -> Iterable[Part]:
    """A row for each parameter; those of blocks that have the same name and shape there share one."""
    groups: dict[tuple[str, str, tuple[int, ...]], list[tuple[int | None, float]]] = {}
    for name, parameter in model.named_parameters():
        found = _BLOCK.match(name)
        outer, inner = (found[1], found[3]) if found else ("", name)
        place = (int(found[2]) if found else None, flops_per_weight(name))
        groups.setdefault((outer, inner, tuple(parameter.shape)), []).append(place)
    for (outer, inner, shape), places in groups.items():
        numbers, elements = [number for number, _ in places if number is not None], math.prod(shape)
        name = f"{outer}.{_span(numbers)}.{inner}" if numbers else inner
        flops = sum(round(elements * each) for _, each in places)
        product = " x ".join(map(str, shape))
        how = f"{len(places)} x {product}" if numbers else product
        parameters = elements * len(places)
        yield Part(name, shape, len(places), parameters, flops, WEIGHT_BYTES * parameters, how)


def _span(numbers: list[int]) -> str:
    dense = len(numbers) > 1 and numbers == list(range(numbers[0], numbers[-1] + 1))
    return f"{numbers[0]}-{numbers[-1]}" if dense else ",".join(map(str, numbers))


def compact(number: float) -> str:
    """1234567 -> 1.23 M."""
    for unit, name in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= unit:
            return f"{number / unit:.3g}{name}"
    return f"{number:.0f}"


def size(number: float) -> str:
    """Bytes for people."""
    return f"{compact(number)}B" if number >= 1000 else f"{number:.0f} B"
