"""A model with a label head and its tokenizer -> a folder that transformers' Auto classes open for the same task.

    sequence, number   BertForSequenceClassification       token   BertForTokenClassification
    span               BertForQuestionAnswering

Invariant: config.json is written last, and only when transformers, where it is installed, gives the model's scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from groundup.errors import resource_errors
from groundup.export.check import SAMPLE_TEXT, compare_with_transformers
from groundup.export.weights import WEIGHTS
from groundup.models import Labeller, bert_name, huggingface_config
from groundup.stage import fsync_file, fsync_folder, write_json
from groundup.tokens import Tokenizer

ARCHITECTURES: Mapping[str, str] = {
    "sequence": "BertForSequenceClassification",
    "number": "BertForSequenceClassification",
    "token": "BertForTokenClassification",
    "span": "BertForQuestionAnswering",
}


def save_labeller(
    model: Labeller, labels: Sequence[str], tokenizer: Tokenizer, folder: Path, with_transformers: bool = True
) -> dict[str, Any]:
    """Write `folder` (made if need be) in float32 and compare scores; returns {parameters, checks}.

    Raises ModelFileError when transformers cannot open it or gives other scores, ResourceError when the disk refuses.
    """
    with resource_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {_name(model, name): t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
        save_file(tensors, folder / WEIGHTS, {"format": "pt"})
        (folder / WEIGHTS).chmod(0o644)  # safetensors makes files that only their owner may read
        fsync_file(folder / WEIGHTS)
        tokenizer.save(folder)
        config = folder / "config.json"
        write_json(config, _config(model, labels, tokenizer))
        fsync_folder(folder)
    try:
        checks = _check(folder, model, tokenizer) if with_transformers else {"skipped": "not asked for"}
    except BaseException:
        config.unlink(missing_ok=True)
        raise
    return {"parameters": sum(tensor.numel() for tensor in tensors.values()), "checks": {"transformers": checks}}


def _name(model: Labeller, name: str) -> str:
    head = "qa_outputs" if model.label_kind == "span" else "classifier"
    if name.startswith("label.output."):
        return name.replace("label.output", head)
    return bert_name(model.pretrained_name(name))


def _config(model: Labeller, labels: Sequence[str], tokenizer: Tokenizer) -> dict[str, Any]:
    pad_id = tokenizer.need_encoder_ids().pad
    values = huggingface_config(model.config, model.vocab_size, pad_token_id=pad_id)
    names = list(labels) or [f"LABEL_{i}" for i in range(len(model.label.output.weight))]
    problem = {"sequence": "single_label_classification", "number": "regression"}.get(model.label_kind)
    return {
        **values,
        "architectures": [ARCHITECTURES[model.label_kind]],
        "id2label": {str(index): name for index, name in enumerate(names)},
        "label2id": {name: index for index, name in enumerate(names)},
        **({"problem_type": problem} if problem else {}),
    }


@torch.inference_mode()
def _check(folder: Path, model: Labeller, tokenizer: Tokenizer) -> dict[str, Any]:
    ids = [tokenizer.document_start_id, *tokenizer.encode(SAMPLE_TEXT)][: model.config.context_length]
    scores = model(torch.tensor([ids], device=next(model.parameters()).device))
    assert isinstance(scores, torch.Tensor), "without targets a model gives scores"
    expected = scores[0].float().cpu()
    if model.label_kind in ("sequence", "number"):
        expected = expected[:1]
    return compare_with_transformers(folder, ids, expected, ARCHITECTURES[model.label_kind])
