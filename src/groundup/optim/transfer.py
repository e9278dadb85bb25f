"""Learning rates of a small model on a larger copy of it: what each way of updating asks for (muP, CompleteP).

    w times wider, d times deeper where it concerns the parameter (`models.scaling` says which)

    updates                                      factor on the rate
    elementwise   Adam, Lion ...: each number    1 / (w d)
                  moves by about the rate
    relative      Adafactor: in proportion to    matrix 1 / sqrt(w), head 1: the starting values are that much smaller
                  the matrix's own numbers       already (Everett et al. 2024, arXiv 2407.05872, table 1)
    orthogonal    Muon: singular values are set  1 / d; scaled like AdamW's root mean square 1 / (sqrt(w) d)

Invariant: without growth the factor is 1, exactly.
"""

from __future__ import annotations

import math
from typing import Literal

Role = Literal["matrix", "embedding", "head", "vector"]
Growth = tuple[float, float]
"""How many times wider and deeper than the base model, as far as that concerns one parameter."""
UNCHANGED: Growth = (1.0, 1.0)
Updates = Literal["elementwise", "relative", "orthogonal", "orthogonal_by_rms", "by_gradient"]
"""What the size of an update follows; for `by_gradient` (SGD, unknown rules) no factor is known."""


def rate_factor(updates: Updates, role: Role, growth: Growth) -> float:
    """What the base model's rate is multiplied with."""
    width, depth = growth
    if growth == UNCHANGED:
        return 1.0
    assert updates != "by_gradient", "require_transfer has refused it"
    if updates == "relative" and role != "vector":
        return 1 / math.sqrt(width) if role == "matrix" else 1.0
    if updates == "orthogonal":
        return 1 / depth
    if updates == "orthogonal_by_rms":
        return 1 / (math.sqrt(width) * depth)
    return 1 / (width * depth)
