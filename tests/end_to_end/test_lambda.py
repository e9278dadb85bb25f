"""`lambda: auto` on a tiny decoder: a choice, its account, the same after kills; and what else the phase mixes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import groundup
from groundup import stage
from groundup.errors import DataError, DivergedError
from groundup.log import read_lines
from groundup.pipeline import RunResult, lambda_stage, status
from groundup.train import loop
from tests.end_to_end import tiny

SEARCH = {"kind": "auto", "grid": [0.5, 2.0, 8.0], "folds": 2, "share": 0.3, "rows": 8, "bound": 10.0}
TRIALS = {"replay", "lambda-0.5-fold-0", "lambda-2.0-fold-0", "lambda-8.0-fold-0"}


def write_recipe(folder: Path, **instruct: Any) -> Path:
    """A tiny recipe with other values in its section of instruction tuning."""
    values = tiny.recipe(folder)
    short = {**values["pretrain"], "tokens": 10 * 512}
    tuned = {**values["instruct"], "tokens": 10 * 512, **instruct}
    evaluation = {"max_new_tokens": 4, "max_questions": 4, "continuation_tokens": 2}
    return tiny.write_recipe(folder, pretrain=short, instruct=tuned, evaluate=evaluation)


def tuned(path: Path, *changes: str) -> RunResult:
    return groundup.instruct(groundup.load_recipe(path, changes))


def summary(result: RunResult, name: str) -> dict[str, Any]:
    return dict(next(entry for entry in result.stages if entry["name"] == name)["summary"])


def hashes(path: Path, *changes: str) -> dict[str, str]:
    entries = status(groundup.load_recipe(path, changes))
    return {e["name"]: stage.verify(Path(e["folder"]))[0] for e in entries if e["state"] == "done"}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    path = write_recipe(tmp_path_factory.mktemp("lambda"), **{"lambda": SEARCH})
    return path, groundup.run(groundup.load_recipe(path))


def test_the_stage_leaves_a_choice_and_every_trial(searched: tuple[Path, RunResult]) -> None:
    _, result = searched
    assert [entry["name"] for entry in result.stages][6:9] == ["questions", "pretrain", "lambda"]
    folder = Path(result.folder) / "stages" / "lambda"
    found = json.loads((folder / "lambda.json").read_text())
    points = {point["lambda"]: point for point in found["points"]}
    assert points.keys() == {0.5, 2.0, 8.0}
    stopped = {weight for weight, point in points.items() if point["stopped"]}
    assert len(stopped) == 1 and found["lambda"] not in stopped
    for weight, point in points.items():
        assert len(point["trials"]) == (1 if weight in stopped else 2)
        assert point["quality"]["value"] > 0 and point["forgetting"]["stderr"] >= 0
        assert point["since_before"]["value"] != point["forgetting"]["value"]
    assert found["trial_tokens"] == 3 * 512 and found["baseline"] == "replay"
    assert not (folder / "folds").exists(), "the folds are no result"
    assert {path.name for path in (folder / "trials").iterdir()} >= TRIALS
    assert not list(folder.rglob("*.safetensors")) and stage.verify(folder.resolve())[1] == []


def test_the_choice_is_in_the_summary_the_report_and_the_events(searched: tuple[Path, RunResult]) -> None:
    _, result = searched
    found = summary(result, "lambda")
    tuned = summary(result, "instruct")
    assert tuned["lambda"] == found["lambda"] and tuned["lambda_chosen"] == found["why"]
    report = json.loads((result.folder / "report.json").read_text())["lambda"]
    assert (report["value"], report["chosen"], report["why"]) == (found["lambda"], "by cross-validation", found["why"])
    events = read_lines(result.folder / "events.jsonl")
    (chosen,) = [event for event in events if event["event"] == "lambda_chosen"]
    assert chosen["value"] == found["lambda"]
    assert sum(event["event"] == "trial_stopped" for event in events) == 1
    lines = [line for line in read_lines(result.folder / "metrics.jsonl") if "loss" in line]
    assert {line["phase"] for line in lines} == {"pretrain", "instruct"}
    assert {line["lambda"] for line in lines if line["phase"] == "instruct"} == {found["lambda"]}
    assert all("lambda" not in line for line in lines if line["phase"] == "pretrain")


def test_what_tuning_changed_is_in_the_evaluation(searched: tuple[Path, RunResult]) -> None:
    _, result = searched
    found = json.loads((result.folder / "stages" / "evaluate" / "evaluation.json").read_text())
    for name in ("bits_per_byte", "perplexity", "token_accuracy", "exact_match", "f1"):
        change = found[f"forgetting:{name}"]
        assert change["value"] == pytest.approx(
            found[name]["value"] - found[f"before_instruct:{name}"]["value"], abs=1e-5
        )
        assert change["stderr"] >= 0
    share = found["forgetting:bits_per_byte"]["value"] / found["before_instruct:bits_per_byte"]["value"]
    assert found["forgetting:bits_per_byte_share"]["value"] == pytest.approx(share, abs=1e-5)
    page = (result.folder / "report.html").read_text()
    assert "What instruction tuning changed" in page and "Choosing lambda" in page


LATER = ("lambda", "instruct", "evaluate", "export")


def elsewhere(path: Path, folder: Path) -> str:
    """The override for a work folder of its own with the stages before the search, so that only it is done again."""
    shutil.copytree(path.parent / "work" / "stages", folder / "stages", ignore=shutil.ignore_patterns(*LATER))
    return f"runtime.workdir={folder}"


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


def killing(function: Callable[..., Any], at: int) -> Callable[..., Any]:
    """`function`, of which call number `at` does not come back."""
    calls = iter(range(10_000))

    def call(*given: Any, **named: Any) -> Any:
        if next(calls) == at:
            raise Killed
        return function(*given, **named)

    return call


@pytest.mark.parametrize(
    ("where", "moments"),
    [
        ("stage.write_json", (2, 5)),
        pytest.param("evaluate.text_sums", (1, 3), marks=pytest.mark.slow),
        pytest.param("shutil.rmtree", (3, 5), marks=pytest.mark.slow),
        pytest.param("run_instruct", (0, 4), marks=pytest.mark.slow),
    ],
)
def test_a_search_that_was_killed_ends_with_the_same_bits(
    searched: tuple[Path, RunResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    moments: tuple[int, ...],
) -> None:
    path, _ = searched
    place = elsewhere(path, tmp_path / "work")
    owner: Any = lambda_stage
    *parts, name = where.split(".")
    for part in parts:
        owner = getattr(owner, part)
    for moment in moments:
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(owner, name, killing(getattr(owner, name), moment))
            tuned(path, place)
    tuned(path, place)
    whole = hashes(path)
    assert hashes(path, place) == {name: whole[name] for name in hashes(path, place)}
    assert "lambda" in hashes(path, place) and "instruct" in hashes(path, place)
    events = read_lines(tmp_path / "work" / "runs" / "tiny" / "events.jsonl")
    assert sum(event["event"] == "lambda_chosen" for event in events) == 1


def test_a_trial_goes_on_from_its_own_checkpoint(
    searched: tuple[Path, RunResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = searched
    changes = [elsewhere(path, tmp_path / "work"), "runtime.checkpoint_every_seconds=1e-9"]
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(loop, "train_step", killing(loop.train_step, 4))
        tuned(path, *changes)
    tuned(path, *changes)
    (resumed,) = [
        event
        for trial in (tmp_path / "work" / "stages" / "lambda").glob("*/trials/*/logs/events.jsonl")
        for event in read_lines(trial)
        if event["event"] == "resumed"
    ]
    assert resumed["step"] == 1, "of three steps, the second of the second training did not come back"
    assert hashes(path, *changes)["instruct"] == hashes(path)["instruct"]


def test_trials_that_diverge_are_stopped_and_never_chosen(
    searched: tuple[Path, RunResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = searched
    place = elsewhere(path, tmp_path / "work")
    tune = lambda_stage.run_instruct

    def diverging(*given: Any, **named: Any) -> Any:
        if not given[2].startswith(("lambda 8", "lambda 0,")):
            raise DivergedError("step 1: not finite")
        return tune(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(lambda_stage, "run_instruct", diverging)
        found = summary(tuned(path, place), "lambda")
        assert found["lambda"] == 8.0
        stopped = {point["lambda"]: point["stopped"] for point in found["points"]}
        assert stopped == {0.5: "diverged after 1 of 2 folds", 2.0: "diverged after 1 of 2 folds", 8.0: ""}
        diverging_all = ["instruct.lambda.grid=[1.0, 2.0]", place]
        with pytest.raises(DivergedError, match="every trial diverged"):
            tuned(path, *diverging_all)


@pytest.mark.slow
def test_answers_may_be_judged_word_for_word(searched: tuple[Path, RunResult], tmp_path: Path) -> None:
    path, _ = searched
    changes = [
        elsewhere(path, tmp_path / "work"),
        "instruct.lambda.metric=exact_match",
        "instruct.lambda.bound=0.0",
    ]
    found = summary(tuned(path, *changes), "lambda")
    assert all(0 <= point["quality"]["value"] <= 1 for point in found["points"])
    if not found["within_bound"]:
        assert "no value keeps" in found["why"]


@pytest.mark.slow
def test_forgetting_may_be_counted_from_the_model_before(searched: tuple[Path, RunResult], tmp_path: Path) -> None:
    path, _ = searched
    found = summary(tuned(path, elsewhere(path, tmp_path / "work"), "instruct.lambda.baseline=before"), "lambda")
    assert all(point["forgetting"] == point["since_before"] for point in found["points"])


def test_folds_without_conversations_and_no_held_out_text_are_refused(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, **{"lambda": {**SEARCH, "folds": 20}})
    with pytest.raises(DataError, match=r"lower instruct\.lambda\.folds"):
        tuned(path)
    with pytest.raises(DataError, match=r"raise corpus\.split\.validation"):
        tuned(path, "corpus.split.validation=0.0", f"runtime.workdir={tmp_path / 'other'}")


def test_epochs_replayed_sources_and_a_course_of_lambda(tmp_path: Path) -> None:
    course = {"kind": "linear", "from": 0.0, "to": 3.0}
    path = write_recipe(tmp_path, tokens=0, epochs=3.0, replay_fraction=0.5, **{"lambda": course})
    more = tmp_path / "more.jsonl"
    more.write_text("".join(json.dumps({"text": f"More text, number {i}, of another kind."}) + "\n" for i in range(40)))
    sources = f"[{{name: text, path: {tmp_path / 'text.jsonl'}}}, {{name: more, path: {more}}}]"
    result = tuned(path, f"corpus.sources={sources}", "instruct.replay_mixture={text: 3.0, more: 1.0}")
    found = summary(result, "instruct")
    assert 3.0 <= found["epochs"]["questions"] < 3.0 + 4 / 3, "whole steps of four rows of conversations"
    assert set(found["epochs"]) == {"replay_text", "replay_more", "questions"}
    assert found["tokens"] == found["steps"] * 512
    lines = [each for each in read_lines(result.folder / "metrics.jsonl") if each["phase"] == "instruct"]
    steps = [line for line in lines if "loss" in line]
    last = found["steps"] - 1
    assert [line["lambda"] for line in steps] == pytest.approx([3.0 * step / last for step in range(last + 1)])
    names = {"loss_replay_text", "loss_replay_more", "loss_questions"}
    assert all(names <= line.keys() for line in steps)
    report = json.loads((result.folder / "report.json").read_text())["lambda"]
    assert report["value"] is None and report["course"]["to"] == 3.0


def test_a_model_from_elsewhere_replays_any_corpus(searched: tuple[Path, RunResult], tmp_path: Path) -> None:
    _, result = searched
    path = write_recipe(tmp_path / "foreign")
    changes = [f"pretrain.from={result.model_folder}", "pretrain.tokens=0"]
    tuned_again = tuned(path, *changes)
    assert summary(tuned_again, "pretrain")["steps"] == 0
    lines = [each for each in read_lines(tuned_again.folder / "metrics.jsonl") if "loss" in each]
    assert {line["phase"] for line in lines} == {"instruct"} and all(line["loss_replay"] > 0 for line in lines)
