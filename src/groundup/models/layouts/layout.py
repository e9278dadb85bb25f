"""A layout: how a class of transformers (or a folder of our own) spells a model, in config.json and in tensors.

    our config    --write--> values of config.json          our tensors --parts--> theirs
                  <--read---                                            <--------

A tensor of theirs is ours as it is, or several of ours below each other, or turned, or with rows ahead that mean
nothing, or a piece of a stack of ours (`Part`): enough for all layouts, so that files are written and read one tensor
at a time.

Invariant: what a layout cannot say is refused by name (`Layout.obstacles`), never left out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from groundup.errors import ModelFileError
from groundup.models.activations import FROM_HUGGINGFACE, HUGGINGFACE_NAMES
from groundup.models.network import NetworkConfig


@dataclass(frozen=True)
class Part:
    """One tensor of a file, made of ours."""

    ours: tuple[str, ...]
    """Names of our tensors, which lie below each other in it."""
    turned: bool = False
    """It is transposed (matrices only)."""
    spare_rows: int = 0
    """Rows ahead that no position is looked up in."""
    piece: tuple[int, int, int] | None = None
    """(i, begin, end): it is only those rows of matrix i of ours, which is a stack of matrices."""

    def shape(self, ours: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
        """Its shape, from the shapes of ours."""
        if self.piece is not None:
            _, begin, end = self.piece
            return (end - begin, *ours[self.ours[0]][2:])
        _, *inner = ours[self.ours[0]]
        shape = (sum(ours[name][0] for name in self.ours) + self.spare_rows, *inner)
        return shape[::-1] if self.turned else shape

    def joined(self, tensors: list[Tensor]) -> Tensor:
        """Our tensors -> theirs."""
        if self.piece is not None:
            matrix, begin, end = self.piece
            return tensors[0][matrix, begin:end].clone()
        whole = tensors[0] if len(tensors) == 1 else torch.cat(tensors)
        if self.spare_rows:
            whole = torch.cat((whole.new_zeros(self.spare_rows, *whole.shape[1:]), whole))
        return whole.t().contiguous() if self.turned else whole

    def split(self, theirs: Tensor, ours: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, Tensor]]:
        """Their tensor -> (our name, tensor or piece of it), views where possible."""
        if self.piece is not None:
            yield self.ours[0], theirs
            return
        whole = theirs.t() if self.turned else theirs
        heights = [ours[name][0] for name in self.ours]
        yield from zip(self.ours, torch.split(whole[self.spare_rows :], heights))


def holders(parts: Mapping[str, Part]) -> dict[str, tuple[str, ...]]:
    """Our name -> the names of theirs that hold it: one (of several copies the last), or all pieces in order."""
    found: dict[str, tuple[str, ...]] = {}
    for theirs in sorted(parts, key=lambda name: parts[name].piece or ()):
        for ours in parts[theirs].ours:
            found[ours] = (theirs,) if parts[theirs].piece is None else (*found.get(ours, ()), theirs)
    return found


def gathered(ours: str, pieces: Sequence[Tensor], shapes: Mapping[str, tuple[int, ...]]) -> Tensor:
    """One of ours, from what its holders have of it, in order; of several that hold all of it the last counts."""
    whole = tuple(pieces[-1].shape) == shapes[ours]
    return pieces[-1] if whole else torch.cat(list(pieces)).view(shapes[ours])


class ConfigValues:
    """The values of a config.json; it remembers which were asked for, so that the rest can be judged."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values
        self.asked: set[str] = set()
        self.common: Mapping[str, str] = {}
        """Key -> the name that other classes have for it, which a file may use as well."""

    def get(self, key: str, default: Any = None) -> Any:
        """A value, or what transformers takes where there is none."""
        if key not in self.values:
            key = self.common.get(key, key)
        self.asked.add(key)
        value = self.values.get(key)
        return default if value is None else value

    def required(self, key: str) -> Any:
        """A value that must be there. Raises ModelFileError."""
        value = self.get(key)
        if value is None:
            raise ModelFileError(f"no '{key}', so the model's shape is not known; copy the model again")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false, or what transformers takes for a key that is missing. Raises ModelFileError.

        A null is refused: older versions took it for false, newer ones refuse it too.
        """
        given = self.get(key) if key in self.values else default
        if type(given) is not bool:
            raise ModelFileError(f"{key} = {str(given)[:30]!r} is neither true nor false; copy the model again")
        return given

    def promise(self, key: str, *allowed: Any) -> None:
        """Raise ModelFileError unless the value is one that this decoder computes; none at all is that too.

        A null in place of true is not: transformers takes it for false.
        """
        self.asked.add(key)
        value = self.values.get(key)
        absent = value is None and (key not in self.values or allowed[:1] != (True,))
        if not absent and not any(value == one and type(value) is type(one) for one in allowed):
            only = repr(allowed[0]) if allowed else "none"
            raise ModelFileError(f"{key} = {str(value)[:30]!r} is not supported, only {only}; use another model")

    def activation(self, key: str, default: str) -> str:
        """Our name of an activation. Raises ModelFileError for one that is not known."""
        value = self.get(key, default)
        if not isinstance(value, str) or value not in FROM_HUGGINGFACE:
            raise ModelFileError(
                f"{key} = {str(value)[:30]!r} is not known; known are {', '.join(HUGGINGFACE_NAMES.values())}"
            )
        return FROM_HUGGINGFACE[value]


@dataclass(frozen=True)
class Layout:
    """One class of transformers, or a layout of our own."""

    model_type: str
    architectures: tuple[str, ...]
    """Classes that read it; the first is meant where config.json names none. Empty: no class of transformers does."""
    config: type[NetworkConfig]
    """Of our models that it spells."""
    parts: Callable[[Any], dict[str, Part]]
    """Their name -> what it is made of, for such a config."""
    write: Callable[[Any], dict[str, Any]]
    """A config -> values of config.json."""
    read: Callable[[ConfigValues], dict[str, Any]]
    """Fields of a config. Raises ModelFileError naming the key in the way."""
    prefix: str = ""
    """What the names of its tensors begin with; files of a bare body lack it."""
    heads: tuple[str, ...] = ("lm_head.",)
    """What the names begin with that have no prefix."""
    head_rows: str = ""
    """Key of config.json that says how many rows these have, where a file may easily lack it."""
    switches: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Field -> the values that it can say."""
    limits: Callable[[Any], list[str]] = field(default=lambda config: [])
    """What else it cannot say of a config."""
    copies: Callable[[Any], Mapping[str, str]] = field(default=lambda config: {})
    """Tensors that a file may hold a second time: name -> the name of what it must equal."""
    spare: Callable[[Any], Collection[str]] = field(default=lambda config: ())
    """Tensors that a file may hold and that such a config has no use for."""
    optional: Callable[[Any], Collection[str]] = field(default=lambda config: ())
    """Tensors that a file may lack, all of them or none; they begin anew then."""
    buffers: tuple[str, ...] = ()
    """Ends of tensor names that older files hold beside the weights, and that say nothing."""
    renamed: Callable[[str], str] = field(default=lambda name: name)
    """A name in an older file -> the name of today."""
    no_effect: frozenset[str] = frozenset()
    """Keys of its config.json that leave the scores as they are."""
    parameters: Callable[[Any, int], int] = field(default=lambda config, vocab_size: config.num_parameters(vocab_size))
    """Numbers in such a file, for a config and a vocabulary: those of the model, or of the part of it that is there."""
    scales_embedding: bool = False
    """It can multiply the embedding itself; elsewhere the factor is folded into the table."""

    def parts_of(self, config: NetworkConfig, present: Collection[str]) -> dict[str, Part]:
        """What a file with these tensors holds: all but the optional ones, where it has none of them."""
        parts, optional = self.parts(config), set(self.optional(config))
        lacks = optional.isdisjoint(present)
        return {name: part for name, part in parts.items() if not (lacks and name in optional)}

    def obstacles(self, config: NetworkConfig) -> list[str]:
        """What this layout cannot say of `config`, each in words; empty when it can say all."""
        if not isinstance(config, self.config):
            return [f"kind: {getattr(config, 'kind', '?')}"]
        found = [
            f"{name}: {_shown(getattr(config, name))}"
            for name, allowed in self.switches.items()
            if getattr(config, name) not in allowed
        ]
        return found + self.limits(config)


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
