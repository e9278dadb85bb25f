"""Folders of other classes of transformers: their logits here, ours there, the same names of tensors in both."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from groundup.export import load_model
from groundup.export.source import open_source
from groundup.export.weights import find_weights
from groundup.export.write import write_weights
from groundup.models import TransformersConfig, from_huggingface, huggingface_config, to_huggingface
from tests.models.transformers_classes import BIASED, CLASSES, VOCAB, values_of

os.environ["HF_HUB_OFFLINE"] = "1"
transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra 'hf')")
transformers.logging.disable_progress_bar()
TOLERANCE = 1e-5


@torch.no_grad()
@pytest.mark.parametrize("model_type", CLASSES)
def test_a_folder_is_read_and_written_as_transformers_does(model_type: str, tmp_path: Path) -> None:
    settings = transformers.AutoConfig.for_model(**values_of(model_type), vocab_size=VOCAB, pad_token_id=None)
    torch.manual_seed(2)
    model = transformers.AutoModelForCausalLM.from_config(settings, dtype=torch.float32).eval()
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    biases = [buffer for name, buffer in model.named_buffers() if name.endswith("correction_bias")]
    assert bool(biases) == (model_type in BIASED)
    for bias in biases:
        bias.copy_(torch.randn(bias.shape))
    model.save_pretrained(theirs, max_shard_size="50KB")
    tokens = torch.randint(0, VOCAB, (2, 20), generator=torch.Generator().manual_seed(1))
    wanted = model(tokens).logits
    loaded = load_model(theirs, need_tokenizer=False)
    torch.testing.assert_close(loaded.logits(tokens), wanted, rtol=TOLERANCE, atol=TOLERANCE)
    source = open_source(theirs)
    ours.mkdir()
    write_weights(source.config, VOCAB, source, ours, torch.float32, 50_000)
    (ours / "config.json").write_text(json.dumps(huggingface_config(source.config, VOCAB)))
    assert find_weights(ours).keys() == find_weights(theirs).keys()
    again, report = transformers.AutoModelForCausalLM.from_pretrained(
        ours, dtype=torch.float32, output_loading_info=True
    )
    assert not any(report.values()), report
    torch.testing.assert_close(again.eval()(tokens).logits, wanted, rtol=TOLERANCE, atol=TOLERANCE)


def config_of(model_type: str) -> TransformersConfig:
    return TransformersConfig(context_length=32, values=values_of(model_type))


def test_pieces_of_a_stack_come_back_together() -> None:
    config = config_of("qwen2_moe")
    with torch.device("meta"):
        names = {name: tuple(p.shape) for name, p in config.build(VOCAB).named_parameters()}
    state = {name: torch.randn(shape) for name, shape in names.items()}
    tensors = to_huggingface(config, state)
    assert tensors["model.layers.1.mlp.experts.3.up_proj.weight"].shape == (16, 32)
    back = from_huggingface(config, VOCAB, tensors)
    assert back.keys() == state.keys() and all(torch.equal(back[name], state[name]) for name in state)
