"""An exported folder -> proof that it gives the logits of the model it came from, or a ModelFileError.

    trained model --logits--+
    folder --load_model-----+--> equal within TOLERANCE, of the largest logit
    folder --transformers---+    (in a process of its own; left out, and said, where it is not installed)

Invariant: what passes here opens with transformers' Auto classes without any code of ours, or says that this was not
tried.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from groundup.errors import ModelFileError
from groundup.export import transformers_reference
from groundup.export.load import LoadedModel, load_model
from groundup.export.weights import fault
from groundup.models import Encoder, EncoderConfig, Labeller, Network, layout_of
from groundup.scratch import scratch_folder
from groundup.tokens import Tokenizer, Turn

TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}
"""Largest difference of a logit between model and file, as a share of the largest logit; by the file's dtype."""
ENGINE_TOLERANCE = 1e-4
"""The same between two readers of one file: both compute in float32, only the order of sums differs."""
AUTO_CLASSES = {
    "sequence": "AutoModelForSequenceClassification",
    "multilabel": "AutoModelForSequenceClassification",
    "number": "AutoModelForSequenceClassification",
    "token": "AutoModelForTokenClassification",
    "span": "AutoModelForQuestionAnswering",
}
"""Of transformers, by task of a labeller."""
TIMEOUT_SECONDS = 600
SAMPLE_TEXT = (
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a "
    "wife. 北京 is the capital of China (population 1,367,485,388), Zürich is not the capital of Switzerland!\n"
)


def check_export(
    folder: Path,
    model: Network,
    tokenizer: Tokenizer,
    dtype: str = "float32",
    text: str = SAMPLE_TEXT,
    with_transformers: bool = True,
) -> dict[str, Any]:
    """Reload `folder` and compare logits on `text`; {check: {largest difference, tolerance} or {skipped: reason}}.

    Raises ModelFileError when a reader cannot open the folder or differs beyond the tolerance.
    """
    return check_built(folder, lambda: model, tokenizer, dtype, text, with_transformers)


def check_built(
    folder: Path,
    build: Callable[[], Network],
    tokenizer: Tokenizer,
    dtype: str = "float32",
    text: str = SAMPLE_TEXT,
    with_transformers: bool = True,
) -> dict[str, Any]:
    """As `check_export`, with a model that is made when it is needed and let go before the folder is read back."""
    model = build()
    ids = _ids(tokenizer, text)[: model.config.context_length]
    expected = _logits_of(model, ids)
    del model
    reloaded = load_model(folder)
    found = reloaded.logits(torch.tensor([ids]))[0]
    checks = {"text_tokens": len(ids), "groundup": _compare(folder, "Groundup", expected, found, TOLERANCE[dtype])}
    return {**checks, "transformers": _engine_check(folder, reloaded, ids, text, with_transformers)}


def check_folder(folder: Path, text: str = SAMPLE_TEXT, with_transformers: bool = True) -> dict[str, Any]:
    """Read `folder` back and compare with transformers, where there is no model in memory to compare with.

    Raises ModelFileError when a reader cannot open the folder or differs beyond the tolerance.
    """
    reloaded = load_model(folder)
    ids = _ids(reloaded.tokenizer, text)[: reloaded.model.config.context_length]
    engine = _engine_check(folder, reloaded, ids, text, with_transformers)
    return {"text_tokens": len(ids), "transformers": engine}


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """A document that begins with `text`, as decoders and encoders read it."""
    return [tokenizer.document_start_id, *tokenizer.encode(text)]


def _engine_check(folder: Path, reloaded: LoadedModel, ids: list[int], text: str, asked: bool) -> dict[str, Any]:
    layout = layout_of(reloaded.model.config)
    if not layout.architectures:
        return {"skipped": f"transformers has no layout {layout.model_type}; this folder is read by Groundup only"}
    return _check_transformers(folder, reloaded, ids, text) if asked else {"skipped": "not asked for"}


@torch.inference_mode()
def _logits_of(model: Network, ids: list[int]) -> Tensor:
    """Logits [time, vocab] of the trained model in float32, whatever it computes in otherwise."""
    compute_dtype, training = model.compute_dtype, model.training
    model.set_compute_dtype(torch.float32)
    model.eval()
    try:
        logits = model(torch.tensor([ids], device=next(model.parameters()).device))
    finally:
        model.set_compute_dtype(compute_dtype)
        model.train(training)
    assert isinstance(logits, Tensor), "without targets a model gives logits"
    return logits[0].float().cpu()


def _compare(folder: Path, reader: str, expected: Tensor, found: Tensor, tolerance: float) -> dict[str, float]:
    if expected.shape != found.shape:
        raise fault(folder, f"{reader} reads logits {list(found.shape)}, not {list(expected.shape)}; export it again")
    scale = max(float(expected.abs().max()), 1e-30)
    difference = float((expected - found).abs().max()) / scale
    if not difference <= tolerance:
        raise fault(
            folder,
            f"{reader} reads logits that differ by {difference:.1e} (allowed {tolerance:.0e}); a fault of the export",
        )
    return {"difference": difference, "tolerance": tolerance}


def _check_transformers(folder: Path, reloaded: LoadedModel, ids: list[int], text: str) -> dict[str, Any]:
    """Logits and token ids as transformers has them, against ours."""
    if importlib.util.find_spec("transformers") is None:
        return {"skipped": "transformers is not installed"}
    question = "What is the capital of France?"
    architecture = _auto_class(reloaded.model)
    dated = "strftime_now" in reloaded.tokenizer.template.text  # there it is another day
    chats = architecture == "AutoModelForCausalLM" and not dated
    messages = [{"role": "user", "content": question}] if chats else []
    pair = question if _reads_pairs(reloaded) else ""
    request = {"ids": ids, "text": text, "messages": messages, "pair": pair, "architecture": architecture}
    with scratch_folder("check") as scratch:
        done = _run_reference(folder, request, scratch)
        last_line = (done.stderr.strip().splitlines() or ["no message"])[-1][:100]
        if done.returncode == transformers_reference.WITHOUT_TRANSFORMERS:
            return {"skipped": f"transformers cannot be imported: {last_line}"}
        if done.returncode:
            raise fault(folder, f"transformers cannot open it ({last_line}); a fault of the export")
        answer = load_file(scratch / "answer.safetensors")
    tokenizer = reloaded.tokenizer
    own_ids = {"text_ids": tokenizer.encode(text)}
    if chats:
        own_ids["chat_ids"] = tokenizer.prompt([Turn("user", question)])
    if pair:
        own_ids["pair_ids"], own_ids["pair_parts"] = _framed(tokenizer, text, pair)
    for name, wanted in own_ids.items():
        if answer[name].tolist() != wanted:
            raise fault(folder, f"transformers' tokenizer gives other {name.replace('_', ' ')}; a fault of the export")
    expected = reloaded.logits(torch.tensor([ids]))[0]
    if isinstance(reloaded.model, Labeller) and reloaded.model.config.pooled:
        expected = expected[:1]  # transformers judges the whole text, which is what stands at [CLS]
    return _compare(folder, "transformers", expected, answer["logits"], ENGINE_TOLERANCE)


def _reads_pairs(reloaded: LoadedModel) -> bool:
    """Whether texts of a pair are told apart; by a tokenizer whose file does not frame texts they are nowhere."""
    config = reloaded.model.config
    return isinstance(config, EncoderConfig) and config.num_parts > 1 and reloaded.tokenizer.frames


def _framed(tokenizer: Tokenizer, text: str, pair: str) -> tuple[list[int], list[int]]:
    """[CLS] text [SEP] pair [SEP], and which of the two texts each token is of."""
    ids = tokenizer.need_encoder_ids()
    first = [ids.cls, *tokenizer.encode(text), ids.sep]
    second = [*tokenizer.encode(pair), ids.sep]
    return first + second, [0] * len(first) + [1] * len(second)


def _auto_class(model: Network) -> str:
    if isinstance(model, Labeller):
        return AUTO_CLASSES[model.config.task]
    return "AutoModelForMaskedLM" if isinstance(model, Encoder) else "AutoModelForCausalLM"


def _run_reference(folder: Path, request: dict[str, Any], scratch: Path) -> subprocess.CompletedProcess[str]:
    """Run `transformers_reference` offline on one request file; its answer lies in `scratch`."""
    (scratch / "request.json").write_text(json.dumps(request), encoding="utf-8")
    paths = [str(folder.absolute()), str(scratch / "request.json"), str(scratch / "answer.safetensors")]
    command = [sys.executable, "-P", str(transformers_reference.__file__), *paths]
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    try:
        return subprocess.run(  # noqa: S603 - our own program, no shell
            command, env={**os.environ, **offline}, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise ModelFileError(
            f"{folder.name}: transformers took more than {TIMEOUT_SECONDS} s to open it; free the machine"
        ) from None
