"""Rotary positions in config.json: `rope_parameters` (transformers 5), `rope_scaling` beside `rope_theta` (before).

Invariant: a way of scaling that is not known is refused by name; a key that is not read is not let pass.
"""

from __future__ import annotations

import math
from typing import Any

from groundup.errors import ModelFileError
from groundup.models.decoder_config import DecoderConfig
from groundup.models.layouts.layout import ConfigValues
from groundup.models.rotary import Llama3Scaling, YarnScaling

FIRST_LLAMA_THETA = 10_000.0
"""Base of the rotary angles where the file, as those of the first Llama models, does not say."""
_KEYS = {
    "default": frozenset[str](),
    "linear": frozenset({"factor"}),
    "dynamic": frozenset({"factor"}),
    "yarn": frozenset({"factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "attention_factor"})
    | {"truncate", "mscale", "mscale_all_dim"},
    "llama3": frozenset({"factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"}),
}


def write_rope(config: DecoderConfig) -> dict[str, Any]:
    """The keys of config.json, in the spelling of transformers 5 and in the older one where they differ."""
    scaling: dict[str, Any] = {"rope_type": "default"}
    given = config.rope_scaling
    if given is not None:
        scaling = {"rope_type": given.kind, "factor": given.factor}
    if isinstance(given, YarnScaling | Llama3Scaling):
        scaling["original_max_position_embeddings"] = given.original_context_length or config.context_length
    if isinstance(given, YarnScaling):
        scaling |= {"beta_fast": given.beta_fast, "beta_slow": given.beta_slow, "truncate": given.truncate}
        if given.attention_factor is not None:
            scaling["attention_factor"] = given.attention_factor
    if isinstance(given, Llama3Scaling):
        scaling |= {"low_freq_factor": given.low_freq_factor, "high_freq_factor": given.high_freq_factor}
    older = {} if given is None else {"rope_scaling": dict(scaling)}
    return {
        "rope_parameters": {**scaling, "rope_theta": config.rope_theta},
        "rope_theta": config.rope_theta,
        **older,
    }


def read_rope(values: ConfigValues) -> dict[str, Any]:
    """rope_theta and rope_scaling as fields of a DecoderConfig. Raises ModelFileError."""
    newer, older = values.get("rope_parameters", {}), values.get("rope_scaling", {})
    for name, given in (("rope_parameters", newer), ("rope_scaling", older)):
        if not isinstance(given, dict):
            raise ModelFileError(f"{name} {str(given)[:50]} is no mapping; copy the model again")
    if newer and older and _kind(newer) != _kind(older):
        raise ModelFileError(
            f"rope_scaling is {_kind(older)[:20]!r}, rope_parameters {_kind(newer)[:20]!r}; export the model again"
        )
    scaling = older or newer
    kind = _kind(scaling)
    values.promise("partial_rotary_factor", 1.0, 1)
    values.get("original_max_position_embeddings")  # no way of scaling but those that ask for it looks at it
    unknown = sorted(_telling(scaling) - {"rope_type", "type", "rope_theta"} - _KEYS.get(kind, frozenset()))
    if kind not in _KEYS or unknown:
        what = f"key {unknown[0][:30]!r} of {kind[:20]!r}" if kind in _KEYS else f"rope_type {kind[:30]!r}"
        raise ModelFileError(f"{what} in rope_parameters is not supported; known are {', '.join(_KEYS)}")
    return {"rope_theta": _theta(values, newer, older), "rope_scaling": _scaling(kind, scaling, values)}


def _telling(scaling: dict[str, Any]) -> set[str]:
    """Keys that may say something: not those without a value, that rotate all of a head, or that no kind looks at."""
    whole = {"partial_rotary_factor"} if scaling.get("partial_rotary_factor") == 1 else set()
    given = {key for key, value in scaling.items() if value is not None}
    return given - whole - {"original_max_position_embeddings", "finetuned"}


def _kind(scaling: dict[str, Any]) -> str:
    return str(scaling.get("rope_type", scaling.get("type", "default")))


def _theta(values: ConfigValues, newer: dict[str, Any], older: dict[str, Any]) -> Any:
    outside = values.get("rope_theta")
    inside = (older or newer).get("rope_theta")  # of two mappings transformers reads the older one only
    theta = next((value for value in (inside, outside) if value is not None), FIRST_LLAMA_THETA)
    other = next((value for value in (outside, newer.get("rope_theta")) if value not in (None, theta)), None)
    if other is not None:
        raise ModelFileError(f"two values of rope_theta, {theta} and {other}; export the model again")
    return float(theta) if type(theta) is int else theta


def _scaling(kind: str, scaling: dict[str, Any], values: ConfigValues) -> dict[str, Any] | None:
    if kind == "default":
        return None
    own = _KEYS[kind] - {"original_max_position_embeddings", "mscale", "mscale_all_dim"}
    found = {"kind": kind, **{key: value for key, value in scaling.items() if key in own and value is not None}}
    if kind in ("yarn", "llama3"):
        # A key outside goes before one inside, as transformers has it.
        inside = scaling.get("original_max_position_embeddings") or values.get("max_position_embeddings")
        found["original_context_length"] = values.get("original_max_position_embeddings", inside)
    if kind == "yarn":
        if scaling.get("factor") is None:
            found["factor"] = _ratio(values.get("max_position_embeddings"), found["original_context_length"])
        sharpened = _sharpened(found["factor"], scaling.get("mscale"), scaling.get("mscale_all_dim"))
        if sharpened is not None:
            found.setdefault("attention_factor", sharpened)
    return {key: float(value) if type(value) is int and key in _FLOATS else value for key, value in found.items()}


_FLOATS = {"factor", "beta_fast", "beta_slow", "attention_factor", "low_freq_factor", "high_freq_factor"}


def _ratio(longer: Any, shorter: Any) -> float:
    """How many times a context was made longer, where a file does not say it. Raises ModelFileError."""
    if type(longer) is not int or type(shorter) is not int or shorter < 1:
        raise ModelFileError("rope_parameters of yarn have no factor; copy the model again")
    return longer / shorter


def _sharpened(factor: Any, scale: Any, scale_of_all: Any) -> float | None:
    """YaRN's attention factor where a file gives it by the two scales of DeepSeek; None where it does not."""
    numbers = [float(value) for value in (factor, scale, scale_of_all) if type(value) in (int, float) and value > 0]
    if len(numbers) < 3:
        return None
    log = max(math.log(numbers[0]), 0.0)
    return (0.1 * numbers[1] * log + 1.0) / (0.1 * numbers[2] * log + 1.0)
