"""A text with gaps -> what an encoder would put into each, with probabilities.

    "The [MASK] rose."   ->   [CLS] The [MASK]  rose . [SEP]   ->   " sun" 0.31, " river" 0.12, ...

Invariant: each gap is judged with all gaps still open; candidates are tokens that stand for text, and their
probabilities are the model's, over the whole vocabulary, as transformers' fill-mask pipeline gives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from groundup.errors import RecipeError
from groundup.models import Encoder
from groundup.tokens import Tokenizer

GAP = "[MASK]"


@dataclass(frozen=True)
class Filling:
    """One candidate for a gap."""

    token: int
    text: str
    probability: float


@torch.inference_mode()
def fill_mask(model: Encoder, tokenizer: Tokenizer, text: str, top_k: int = 5) -> list[list[Filling]]:
    """The `top_k` most probable tokens for each [MASK] of `text`, in order.

    White space before [MASK] belongs to the gap, as words bring theirs with them. Raises RecipeError when there is no
    gap or the text is longer than the model's context.
    """
    ids = gapped_ids(tokenizer, text)
    mask = tokenizer.need_encoder_ids().mask
    if mask not in ids:
        raise RecipeError(f'no {GAP} in the text, so nothing is to be filled in; for example "The {GAP} rose."')
    if len(ids) > model.config.context_length:
        raise RecipeError(
            f"the text has {len(ids)} tokens, the model sees {model.config.context_length}; give a shorter one"
        )
    scores = model(torch.tensor([ids], device=next(model.parameters()).device))
    assert isinstance(scores, Tensor), "without targets an encoder gives scores"
    control = sorted(tokenizer.control_ids)
    found = []
    for place in [i for i, token in enumerate(ids) if token == mask]:
        gap = torch.softmax(scores[0, place].double().cpu(), dim=0)
        gap[control] = -1.0
        best = gap.topk(min(top_k, tokenizer.vocab_size - len(control)))
        found.append(
            [
                Filling(token, tokenizer.decode([token]), probability)
                for token, probability in zip(best.indices.tolist(), best.values.tolist())
            ]
        )
    return found


def gapped_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """[CLS], the text with [MASK] where it stands in it, [SEP]."""
    ids = tokenizer.need_encoder_ids()
    before, *others = text.split(GAP)
    pieces = [part.rstrip() for part in (before, *others[:-1])] + others[-1:] if others else [before]
    encoded: Sequence[list[int]] = [tokenizer.encode(piece) if piece else [] for piece in pieces]
    joined = encoded[0]
    for part in encoded[1:]:
        joined = [*joined, ids.mask, *part]
    return [ids.cls, *joined, ids.sep]
