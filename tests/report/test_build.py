"""The page: one safe, self-contained file that says what there is and what is missing, whatever the run's state."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import shutil
import time
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from groundup.errors import DataError
from groundup.report import build_report
from tests.report.toy_run import STAGE_SECONDS, TOKENS_PER_STEP, make_run, metric_lines, write_json, write_lines

VOID = {"meta", "br"}


class Page(HTMLParser):
    """Tags, attributes and visible text of a page; raises when tags do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.text += data + " "

    def count(self, tag: str) -> int:
        return sum(1 for name, _ in self.tags if name == tag)


def page_of(run: Path) -> Page:
    return Page(build_report(run).read_text(encoding="utf-8"))


def stage_file(run: Path, stage: str, name: str) -> Path:
    return run.parents[1] / "stages" / stage / "0123456789abcdef" / name


def test_a_finished_run_is_told_from_its_answers_to_its_recipe(run_folder: Path) -> None:
    page = page_of(run_folder)
    for part in (
        "atlas",
        "A model of 9.4M parameters, trained from scratch on 3.6M tokens of text and conversations",
        "It answers 93.4% of 1,040 held-out questions word for word, 0.0% before instruction tuning.",
        "93.4% ± 0.8",
        "What is the capital of France?",
        "It is a truth universally acknowledged, that",
        "Rule length:  too short",
        "Not readable:  no field 'text'",
        "factbook.jsonl:17: it has id, body",
        "factbook.jsonl:90 (2, bound 10): NA",
        "factbook: 5,210 records in, 5,006 kept (96.1%); 4.71 MB of text in, 4.51 MB kept",
        "austen/austen.jsonl:9: &amp; → &",
        "Script of most letters",
        "identified while cleaning",
        "public domain",
        "austen/austen.jsonl:7 holds 75% of exam.jsonl:2: in want of a wife",
        "bytes per token of the training text",
        "How many tokens text needs",
        "50,261 tokens",
        "austen  source",
        "Latin script  language",
        "98.7%",
        "FLOPs spent on training",
        "Validation, bits per byte",
        "5 checkpoints were saved",
        "resumed",
        "2.13.0",
        "hidden_size: 320",
        "short/government type",
        "3 min 34 s",
    ):
        assert part in page.text, part
    assert "Not finished" not in page.text
    assert page.count("svg") > 12


def test_the_page_asks_for_nothing_outside_itself(run_folder: Path) -> None:
    text = build_report(run_folder).read_text(encoding="utf-8")
    assert not re.search(r"(?i)https?:|//[a-z]|url\(|@import|<link|<img|<iframe|srcset", text)
    page = Page(text)
    assert not any(key in ("src", "style", "action") or key.startswith("on") for _, attrs in page.tags for key in attrs)
    assert all((attrs.get("href") or "").startswith("#") for tag, attrs in page.tags if tag == "a")


def test_the_policy_allows_exactly_this_style_and_this_script(run_folder: Path) -> None:
    text = build_report(run_folder).read_text(encoding="utf-8")
    policy = next(attrs["content"] for tag, attrs in Page(text).tags if attrs.get("http-equiv"))
    assert policy is not None
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'")
    for tag in ("style", "script"):
        found = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert len(found) == 1
        assert base64.b64encode(hashlib.sha256(found[0].encode()).digest()).decode() in policy


def test_the_page_is_built_for_everybody(run_folder: Path) -> None:
    text = build_report(run_folder).read_text(encoding="utf-8")
    page = Page(text)
    assert ("html", {"lang": "en"}) in page.tags
    headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(headings))
    plots = [attrs for tag, attrs in page.tags if tag == "svg" and attrs.get("class") == "plot"]
    assert plots
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in plots)
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in page.tags if tag == "th")
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert {(attrs["href"] or "")[1:] for tag, attrs in page.tags if tag == "a"} <= ids
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert "width=device-width" in text


HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>\"'`{{7*7}}{% x %}&lt;</td>"
    " \u202egnp.exe \u200b\x1b[31m \ud800"
)


def test_text_from_data_is_shown_and_never_obeyed(run_folder: Path) -> None:
    clean = page_of(run_folder)

    def spoil(value: Any) -> Any:
        if isinstance(value, dict):
            return {key if key.islower() else key + HOSTILE: spoil(item) for key, item in value.items()}
        if isinstance(value, list):
            return [spoil(item) for item in value]
        return value + HOSTILE if isinstance(value, str) and value not in ("done", "missing") else value

    for stage, name in (
        ("corpus", "report.json"),
        ("contamination", "contamination.json"),
        ("evaluate", "samples.json"),
        ("evaluate", "evaluation.json"),
    ):
        path = stage_file(run_folder, stage, name)
        write_json(path, spoil(json.loads(path.read_text())))
    manifest = stage_file(run_folder, "export", "manifest.json")
    write_json(manifest, spoil(json.loads(manifest.read_text())))
    report = json.loads(stage_file(run_folder, "corpus", "report.json").read_text())
    report["sources"][HOSTILE] = report["sources"]["factbook"]
    write_json(stage_file(run_folder, "corpus", "report.json"), report)
    lines = [{**line, f"loss_{HOSTILE}": 2.0} for line in metric_lines()]
    write_lines(run_folder / "metrics.jsonl", lines)
    write_lines(run_folder / "events.jsonl", [{"event": HOSTILE, "time": HOSTILE, "phase": HOSTILE, HOSTILE: HOSTILE}])
    (run_folder / "recipe.yaml").write_text("note: '" + HOSTILE.replace("'", "").replace("\ud800", "") + "'\n")
    text = build_report(run_folder).read_text(encoding="utf-8")
    page = Page(text)
    assert page.count("script") == clean.count("script") == 1
    assert page.count("img") == 0
    assert not any(key.startswith("on") for _, attrs in page.tags for key in attrs)
    assert "<script>alert(1)</script>" in page.text
    assert "{{7*7}}" in page.text
    assert not re.search("[\u202e\u200b\x1b\ud800]", text)
    json.loads((run_folder / "report.json").read_text())


@pytest.mark.parametrize("done", range(len(STAGE_SECONDS) + 1))
def test_an_unfinished_run_says_what_is_still_to_do(tmp_path: Path, done: int) -> None:
    run = make_run(tmp_path / "work", done)
    page = page_of(run)
    left = list(STAGE_SECONDS)[done:]
    assert ("Not finished: " + ", ".join(left) in page.text) == bool(left)
    figures = json.loads((run / "report.json").read_text())
    assert figures["finished"] is not bool(left)
    assert ("Not evaluated yet." in page.text) == (done <= list(STAGE_SECONDS).index("evaluate"))


def test_an_empty_folder_gives_a_page_and_a_missing_one_an_error(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    assert "no list of stages" in page.text
    assert "metrics.jsonl is not there" in page.text
    with pytest.raises(DataError, match="no such run folder"):
        build_report(tmp_path / "gone")


def test_damaged_files_are_named_and_the_rest_is_shown(run_folder: Path) -> None:
    generator = random.Random(2)
    path = run_folder / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-30] + b"\n\x00\x00\n[1]\n" + b"[" * 100_000 + b"\n\xff\xfe")
    stage_file(run_folder, "evaluate", "samples.json").write_text("{")
    stage_file(run_folder, "corpus", "report.json").write_text("[]")
    stage_file(run_folder, "export", "manifest.json").unlink()
    (run_folder / "recipe.yaml").write_bytes(generator.randbytes(300))
    page = page_of(run_folder)
    for part in (
        "cut or no JSON",
        "samples.json cannot be read",
        "report.json does not hold",
        "manifest.json is not there",
    ):
        assert part in page.text, part
    assert "93.4%" in page.text


values = ["x", 3, None, [], {}, [1], {"a": None}, -1, 1e400, True, {"value": "x", "stderr": [], "n": {}}]


@pytest.mark.parametrize("seed", range(12))
def test_values_of_any_kind_never_raise(run_folder: Path, seed: int) -> None:
    generator = random.Random(seed)

    def shake(value: Any) -> Any:
        if generator.random() < 0.12:
            return generator.choice(values)
        if isinstance(value, dict):
            return {key: shake(item) for key, item in value.items()}
        return [shake(item) for item in value] if isinstance(value, list) else value

    for path in (
        run_folder / "stages.json",
        stage_file(run_folder, "corpus", "report.json"),
        stage_file(run_folder, "corpus", "manifest.json"),
        stage_file(run_folder, "contamination", "contamination.json"),
        stage_file(run_folder, "evaluate", "samples.json"),
        stage_file(run_folder, "evaluate", "evaluation.json"),
    ):
        write_json(path, shake(json.loads(path.read_text())))
    write_lines(run_folder / "metrics.jsonl", [line for line in map(shake, metric_lines()) if isinstance(line, dict)])
    write_lines(run_folder / "events.jsonl", [{"event": shake("resumed"), "step": shake(3), "time": shake("t")}] * 9)
    page_of(run_folder)
    assert "NaN" not in (run_folder / "report.json").read_text()


def test_a_million_metric_lines_load_in_seconds(run_folder: Path) -> None:
    lines = [json.dumps(line) for line in metric_lines() if line["phase"] == "pretrain" and "validation" not in line]
    with (run_folder / "metrics.jsonl").open("w") as handle:
        for step in range(1, 1_000_001):
            handle.write(f'{{"phase": "pretrain", "step": {step}, "loss": {2 + step % 7}}}\n')
        handle.write(
            "\n".join(lines[:1]) + '\n{"phase": "pretrain", "step": 9, "validation": {"bits_per_byte": 1.5}}\n'
        )
    started = time.process_time()
    page = page_of(run_folder)
    assert time.process_time() - started < 10
    assert "every 50th line" in page.text
    assert (run_folder / "report.html").stat().st_size < 2_000_000


def test_notes_name_gaps_skips_falls_back_and_forgetting(run_folder: Path) -> None:
    lines = [line for line in metric_lines() if not (line["phase"] == "pretrain" and 100 <= line["step"] < 110)]
    lines[5]["skipped"] = True
    for line in lines:
        if line["phase"] == "instruct" and "validation" in line:
            line["validation"]["bits_per_byte"] = 1.0 + line["step"] / 100
    write_lines(run_folder / "metrics.jsonl", lines)
    write_lines(
        run_folder / "events.jsonl", [{"event": "checkpoint_fallback", "phase": "pretrain", "checkpoint": "step-7"}]
    )
    text = page_of(run_folder).text
    assert "no line for step 100 to 109" in text
    assert "1 steps had a loss" in text
    assert "1 damaged checkpoints" in text
    assert "tuning cost some of the text" in text


def test_of_two_lines_for_a_step_the_later_counts(run_folder: Path) -> None:
    lines = metric_lines()
    again = [{**line, "loss": 1.2345678} for line in lines if line["phase"] == "pretrain" and line["step"] == 260]
    write_lines(run_folder / "metrics.jsonl", lines + again)
    assert "1.235" in page_of(run_folder).text


def test_a_run_without_instruction_tuning_shows_one_column(run_folder: Path) -> None:
    path = stage_file(run_folder, "evaluate", "evaluation.json")
    metrics = json.loads(path.read_text())
    write_json(path, {name: entry for name, entry in metrics.items() if ":" not in name})
    path = stage_file(run_folder, "evaluate", "samples.json")
    write_json(path, {"base": json.loads(path.read_text())["base"]})
    page = page_of(run_folder)
    assert "93.4%" in page.text
    assert "After instruction tuning" not in page.text
    assert "before instruction tuning" not in page.text


def test_report_json_holds_the_figures_for_programs(run_folder: Path) -> None:
    build_report(run_folder)
    figures = json.loads((run_folder / "report.json").read_text())
    assert figures["parameters"] == 9_441_600
    assert figures["tokens"] == {
        "pretrain": 260 * TOKENS_PER_STEP,
        "instruct": 180 * TOKENS_PER_STEP,
        "total": 440 * TOKENS_PER_STEP,
    }
    assert figures["seconds"]["total"] == pytest.approx(sum(STAGE_SECONDS.values()))
    assert figures["cost"]["pretrain"]["flops"] == 260 * TOKENS_PER_STEP * 52_300_000
    assert figures["metrics"]["exact_match"]["value"] == 0.934
    assert figures["metrics_by_phase"]["base"]["exact_match"]["value"] == 0.0
    assert figures["lambda"] == {"value": 1.0, "chosen": "set in the recipe"}
    assert figures["versions"]["torch"] == "2.13.0"
    assert figures["finished"] is True


def test_a_moved_work_folder_still_reads_through_the_links(run_folder: Path, tmp_path: Path) -> None:
    (run_folder / "stages").mkdir()
    for name in STAGE_SECONDS:
        (run_folder / "stages" / name).symlink_to(f"../../../stages/{name}/0123456789abcdef")
    shutil.move(tmp_path / "work", tmp_path / "moved")
    assert "What is the capital of France?" in page_of(tmp_path / "moved" / "runs" / "atlas").text


def test_the_same_run_gives_the_same_page(run_folder: Path) -> None:
    first = build_report(run_folder).read_bytes()
    assert build_report(run_folder).read_bytes() == first
