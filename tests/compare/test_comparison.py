"""Two models side by side, by the command: answers, differences, verdicts, the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from groundup import cli, save_model
from groundup.compare.pairs import differences
from groundup.evaluate import mean
from groundup.export import ExportConfig
from groundup.models import Decoder, DecoderConfig, build_model
from groundup.tokens import Tokenizer, TokenizerConfig, train_tokenizer
from tests.compare.conftest import Judging, made

FORGED = "</blockquote><script>alert(1)</script><img src=x onerror=alert(1)> {{ 7 * 7 }} \u202e"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    home = tmp_path_factory.mktemp("compare")
    (home / "tokenizer").mkdir()
    train_tokenizer(TokenizerConfig(vocab_size=280), ["the cat sat on the mat"] * 3, home / "tokenizer")
    tokenizer = Tokenizer.load(home / "tokenizer")
    config = DecoderConfig(
        context_length=256, num_layers=1, hidden_size=16, num_heads=2, num_kv_heads=1, ffn_size=32, tied=False
    )
    for seed, name in enumerate(("one", "two")):
        model = build_model(config, tokenizer.vocab_size)
        model.initialise(seed=seed)
        assert isinstance(model, Decoder)
        save_model(model.eval(), tokenizer, home / name, ExportConfig())
    return str(home / "one"), str(home / "two")


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    records = [{"prompt": f"say {FORGED}", "reference": "the cat"}, {"prompt": "the mat"}]
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def test_differences_are_paired() -> None:
    pairs = made(("right", "wrong"), ("right", "right"), ("wrong", "wrong"), ("right", "no"))
    exact = next(each for each in differences(pairs) if each.name == "exact_match")
    assert exact.sides == (mean([1, 1, 0, 1]), mean([0, 1, 0, 0]))
    assert exact.difference == mean([-1, 0, 0, -1])
    assert exact.better == (2, 0)
    assert [each.name for each in differences(made(("a b", "c"), reference=None))] == ["words"]


def test_the_command_writes_a_page(
    models: tuple[str, str], prompts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    given = ["compare", *models, "--prompts", prompts, "--out", str(page), "--max-new-tokens", "8"]
    assert cli.main([*given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["prompts"], found["judge"]) == (2, None)
    assert found["figures"]["exact_match"]["b_minus_a"]["n"] == 1
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text.lower()
    assert "<img" not in text
    assert "7 * 7" in text
    assert "\u202e" not in text
    assert "default-src &#39;none&#39;" in text
    assert "http" not in text.replace("http-equiv", "")


def test_a_judge_by_the_command(
    models: tuple[str, str], prompts: str, server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Judging.reply = lambda prompt, count: (200, "Verdict: 1")
    people = tmp_path / "people.jsonl"
    people.write_text('{"prompt": "the mat", "verdict": "tie"}\n')
    given = ["compare", *models, "--prompts", prompts, "--out", str(tmp_path / "page.html"), "--max-new-tokens", "8"]
    judge = ["--judge", server, "--judge-model", "m", "--judge-attempts", "1", "--people", str(people)]
    assert cli.main([*given, *judge, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["judge"]["wins"] == {"a": 0, "tie": 2, "b": 0}
    assert found["judge"]["people"]["agreement"]["value"] == 1.0
    assert found["judge"]["orders"]["agreement"]["value"] == 0.0
    assert "changed its mind" in (tmp_path / "page.html").read_text(encoding="utf-8")
    Judging.reply = lambda prompt, count: (503, b"")
    assert cli.main([*given, *judge]) == 6
    assert "2 pairs were not judged" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ([], 2),
        (["--prompts", "none.jsonl"], 3),
        (["--limit", "-1"], 2),
        (["--judge", "ftp://x", "--judge-model", "m"], 2),
        (["third"], 2),
    ],
)
def test_what_a_user_can_cause_ends_in_a_line(
    models: tuple[str, str], more: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compare", *models, *more]) == code
    line = capsys.readouterr().err.splitlines()[0]
    assert len(line) <= 220
    assert "unexpected" not in line


def test_a_folder_that_is_not_there_is_said_before_the_judge_is_asked(
    models: tuple[str, str], prompts: str, tmp_path: Path
) -> None:
    nowhere = str(tmp_path / "no" / "page.html")
    assert cli.main(["compare", *models, "--prompts", prompts, "--out", nowhere, "--max-new-tokens", "2"]) == 3
