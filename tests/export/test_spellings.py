"""config.json as people's files have it: keys left out, null or in the older spelling mean what transformers reads."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundup.errors import ModelFileError, first_line
from groundup.export.load import load_model
from tests.export.random_models import FAMILIES, VOCAB, random_values

os.environ["HF_HUB_OFFLINE"] = "1"
transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra 'hf')")
transformers.logging.disable_progress_bar()
TOLERANCE = 1e-5
LARGEST = 300
"""A key left out may stand for sizes of billions of parameters; such a model is not made."""
ROPE = ("new", "old", "type", "both", "none", "base only", "scaling only")


def spelled(values: dict[str, Any], how: str) -> dict[str, Any]:
    """The rotary positions of `values` in one of the ways in which files say them."""
    rope = values.get("rope_parameters")
    if rope is None or how == "new":
        return values
    scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
    if how == "type":
        scaling = {"type" if key == "rope_type" else key: value for key, value in scaling.items()}
    kept = {key: value for key, value in values.items() if key != "rope_parameters" or how == "both"}
    plain = "default" in scaling.values()
    older = {} if how in ("none", "base only") else {"rope_scaling": None if plain else scaling}
    return {**kept, **older, **({} if how in ("none", "scaling only") else {"rope_theta": rope["rope_theta"]})}


def native(values: dict[str, Any]) -> Any:
    """Their model; None where they refuse the values or it would be large."""
    try:
        config = transformers.AutoConfig.for_model(**values)
    except Exception:
        return None
    sizes = [config.hidden_size, config.num_hidden_layers, config.num_attention_heads]
    if not all(type(size) is int and 0 < size <= LARGEST for size in sizes):
        return None
    try:
        return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    except Exception:
        return None


def fill(model: Any, seed: int) -> None:
    """Random values everywhere, norms and biases too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    family=st.sampled_from(FAMILIES),
    seed=st.integers(0, 10**6),
    how=st.sampled_from(ROPE),
    gone=st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=2),
    narrow=st.booleans(),
)
def test_what_is_read_is_what_transformers_reads(
    family: str,
    seed: int,
    how: str,
    gone: list[tuple[int, bool]],
    narrow: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    values = spelled(random_values(family, seed), how)
    for at, null in gone:
        key = sorted(values)[at % len(values)]
        if key not in ("model_type", "vocab_size"):
            values = {**values, key: None} if null else {name: v for name, v in values.items() if name != key}
    model = native(values)
    if model is None:
        return
    fill(model, seed)
    folder: Path = tmp_path_factory.mktemp("theirs")
    model.to(torch.bfloat16 if narrow else torch.float32).save_pretrained(
        folder, max_shard_size=("1GB", "20KB")[seed % 2]
    )
    (folder / "config.json").write_text(json.dumps(values))
    reference = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    try:
        loaded = load_model(folder, need_tokenizer=False)
    except ModelFileError as error:
        assert gone and not first_line(error).endswith("..."), error
        return
    tokens = torch.randint(0, VOCAB, (2, 24), generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        assert float((loaded.logits(tokens) - reference(tokens).logits).abs().max()) <= TOLERANCE


KINDS: dict[str, list[str] | None] = {
    "none": None,
    "full": ["full_attention"] * 2,
    "windows": ["sliding_attention"] * 2,
}


@pytest.mark.parametrize("kinds", KINDS)
def test_mistral_with_kinds_of_layers_is_read_as_ministral(kinds: str, tmp_path: Path) -> None:
    draw = random.Random(1)
    values = {**random_values("mistral", draw.randrange(0, 100, 2)), "num_hidden_layers": 2, "sliding_window": 5}
    model = native(values)
    fill(model, 1)
    model.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**values, "layer_types": KINDS[kinds]}))
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    loaded = load_model(tmp_path, need_tokenizer=False)
    tokens = torch.randint(0, VOCAB, (2, 24), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert float((loaded.logits(tokens) - reference(tokens).logits).abs().max()) <= TOLERANCE
