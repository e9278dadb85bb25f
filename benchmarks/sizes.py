"""A word for a model's size -> its shape: `10M`, `30M-V32768`, `V4096-d384-L5-H6-ff1024-T512`.

Invariant: a shape is read the same by the harness and by every runner, and its canonical word reads back as itself.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

FORM = "V4096-d384-L5-H6-ff1024-T512"


@dataclass(frozen=True)
class Size:
    """Shape of a Llama-like decoder; other architectures take what they have of it."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    ffn_size: int
    context_length: int

    @property
    def word(self) -> str:
        """The canonical word, as in FORM."""
        return "-".join(f"{letter}{getattr(self, name)}" for letter, name in LETTERS.items())

    def matmul_parameters(self) -> int:
        """Parameters of a Llama-like model that stand in matrix products, the output matrix included."""
        block = 4 * self.hidden_size**2 + 3 * self.hidden_size * self.ffn_size
        return self.num_layers * block + self.vocab_size * self.hidden_size

    def attention_flops_per_token(self) -> int:
        """Forward and backward of causal attention for one token: 6 * layers * width * context."""
        return 6 * self.num_layers * self.hidden_size * self.context_length

    def as_dict(self) -> dict[str, Any]:
        """For a job's JSON."""
        return asdict(self)


LETTERS = dict(zip(("V", "d", "L", "H", "ff", "T"), (field.name for field in fields(Size))))
PRESETS = {
    "5M": Size(4096, 256, 5, 4, 704, 512),
    "10M": Size(4096, 384, 5, 6, 1024, 512),
    "30M": Size(8192, 512, 8, 8, 1408, 512),
    "60M": Size(16384, 640, 10, 10, 1728, 512),
}
"""Millions of parameters with a tied table."""


def parse_size(text: str) -> Size:
    """A preset, a preset with changes (`10M-V32768-T1024`) or all six values. Raises ValueError saying the form."""
    head, *rest = text.split("-")
    words = rest if head in PRESETS else [head, *rest]
    changes = {}
    for word in words:
        found = re.fullmatch(r"(V|d|L|H|ff|T)([1-9]\d*)", word)
        if not found:
            raise ValueError(
                f"size '{text}': '{word}' is neither one of {', '.join(PRESETS)} nor like a part of {FORM}"
            )
        changes[LETTERS[found[1]]] = int(found[2])
    missing = [letter for letter, name in LETTERS.items() if name not in changes]
    if head not in PRESETS and missing:
        raise ValueError(f"size '{text}' lacks {', '.join(missing)}; the whole form is {FORM}")
    size = replace(PRESETS[head], **changes) if head in PRESETS else Size(**changes)
    if size.hidden_size % (2 * size.num_heads):
        raise ValueError(f"size '{text}': hidden size {size.hidden_size} does not give {size.num_heads} even heads")
    return size
