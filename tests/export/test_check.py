"""Exports against transformers itself (skipped where it is not installed), and what the check says of faults."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from groundup.errors import ModelFileError, first_line
from groundup.export import check, check_export, load_model, save_model, transformers_reference
from groundup.inference import GenerateConfig
from groundup.models import Decoder
from groundup.tokens import Tokenizer

Make = Callable[[str], Decoder]
needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed (pip install groundup[hf])"
)


@pytest.fixture(scope="module")
def transformers() -> Any:
    """Imported once, which takes some ten seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("transformers")


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch, transformers: Any) -> Iterator[None]:
    """Run the reference program here, where transformers is imported already."""

    def run(folder: Path, request: dict[str, Any], scratch: Path) -> subprocess.CompletedProcess[str]:
        (scratch / "request.json").write_text(json.dumps(request), encoding="utf-8")
        arguments = (str(folder), str(scratch / "request.json"), str(scratch / "answer.safetensors"))
        try:
            transformers_reference.main(*arguments)
        except Exception as error:  # as the process would end
            return subprocess.CompletedProcess(arguments, 1, "", f"Traceback\n{error}")
        return subprocess.CompletedProcess(arguments, 0, "", "")

    monkeypatch.setattr(check, "_run_reference", run)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@needs_transformers
@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("layout", ["qwen3", "llama", "wide"])
def test_transformers_reads_the_same_logits_and_tokens(
    make_model: Make, tokenizer: Tokenizer, tmp_path: Path, layout: str
) -> None:
    checks = save_model(make_model(layout), tokenizer, tmp_path)["checks"]
    assert checks["transformers"]["difference"] <= checks["transformers"]["tolerance"]
    assert checks["text_tokens"] == 64


@needs_transformers
@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("kind", ["Llama", "Qwen3"])
def test_a_model_that_transformers_made_is_read(transformers: Any, tmp_path: Path, kind: str) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = getattr(transformers, f"{kind}Config")(
        **sizes, num_key_value_heads=2, head_dim=8, vocab_size=120, max_position_embeddings=64
    )
    torch.manual_seed(0)
    theirs = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    theirs.save_pretrained(tmp_path)
    tokens = torch.randint(0, 120, (2, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs(tokens).logits
    found = load_model(tmp_path, need_tokenizer=False).logits(tokens)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@needs_transformers
@pytest.mark.usefixtures("in_process")
def test_transformers_generates_what_we_generate(transformers: Any, exported: Path) -> None:
    loaded = load_model(exported)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(exported)
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported)
    prompt = loaded.tokenizer.document_prompt("the cat")
    with torch.no_grad():
        ids = theirs.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=12)[0].tolist()
    said = tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True)
    assert said == loaded.generate("the cat", GenerateConfig(max_new_tokens=12))


@needs_transformers
@pytest.mark.usefixtures("in_process")
def test_what_transformers_reads_otherwise_is_a_fault(
    exported: Path, tmp_path: Path, make_model: Make, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "model"))
    model = make_model("qwen3")
    assert check_export(folder, model, tokenizer)["transformers"]["difference"] <= check.ENGINE_TOLERANCE
    monkeypatch.setattr(check, "ENGINE_TOLERANCE", -1.0)  # the two may agree to the bit
    monkeypatch.setattr(check, "TOLERANCE", {"float32": 1.0})
    with torch.no_grad():
        model.norm.weight.mul_(1.01)
    with pytest.raises(ModelFileError, match="transformers reads logits that differ"):
        check_export(folder, model, tokenizer)
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "generation_config.json").write_text("[]")
    with pytest.raises(ModelFileError) as caught:
        check_export(folder, model, tokenizer)
    assert not first_line(caught.value).endswith("...")


@pytest.mark.parametrize(
    ("returncode", "stderr", "finding"),
    [
        (transformers_reference.WITHOUT_TRANSFORMERS, "No module named 'x'\n", None),
        (1, "Traceback ...\nValueError: unknown architecture\n", "cannot open it .ValueError: unknown architecture"),
        (-9, "", "cannot open it .no message"),
    ],
)
def test_a_reader_that_fails_is_a_fault_and_one_that_is_not_there_is_not(
    exported: Path,
    make_model: Make,
    tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
    returncode: int,
    stderr: str,
    finding: str | None,
) -> None:
    done = subprocess.CompletedProcess([], returncode, "", stderr)
    monkeypatch.setattr(check, "_run_reference", lambda *arguments: done)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    if finding is None:
        found = check_export(exported, make_model("qwen3"), tokenizer)
        assert found["transformers"] == {"skipped": "transformers cannot be imported: No module named 'x'"}
    else:
        with pytest.raises(ModelFileError, match=finding):
            check_export(exported, make_model("qwen3"), tokenizer)


def test_without_transformers_it_is_said(
    exported: Path, make_model: Make, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = check_export(exported, make_model("qwen3"), tokenizer)
    assert found["transformers"] == {"skipped": "transformers is not installed"}
    assert found["groundup"]["difference"] <= found["groundup"]["tolerance"]


def test_another_model_is_told_apart(exported: Path, make_model: Make, tokenizer: Tokenizer) -> None:
    model = make_model("qwen3")
    with torch.no_grad():
        model.norm.weight[0] += 0.5
    with pytest.raises(ModelFileError, match="Groundup reads logits that differ"):
        check_export(exported, model, tokenizer, with_transformers=False)
    with torch.no_grad():
        model.norm.weight[0] = torch.nan
    with pytest.raises(ModelFileError, match="differ by nan"):
        check_export(exported, model, tokenizer, with_transformers=False)


@needs_transformers
@pytest.mark.slow
def test_the_reference_runs_as_a_program_of_its_own(exported: Path, make_model: Make, tokenizer: Tokenizer) -> None:
    checks = check_export(exported, make_model("qwen3"), tokenizer)
    assert checks["transformers"]["difference"] <= check.ENGINE_TOLERANCE
