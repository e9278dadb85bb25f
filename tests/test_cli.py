"""The command: one grammar, results on stdout, one line and a documented exit code for what a user can cause."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import pty
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from groundup import agent, cli, errors, launcher, log, torchrun
from groundup.cli import rooms, stages
from groundup.errors import DataError, DivergedError, Interrupted, LockedError, ModelFileError
from tests.report.toy_run import make_run

STARTUP_CPU_SECONDS = 0.3


@pytest.fixture(autouse=True)
def _restore_logger() -> Iterator[None]:
    state = (log.logger.handlers[:], log.logger.propagate, log.logger.level)
    yield
    log.logger.handlers[:], log.logger.propagate = state[0], state[1]
    log.logger.setLevel(state[2])


class ToyChat:
    def __init__(self) -> None:
        self.asked: list[str] = []

    def reply(self, text: str) -> Iterator[str]:
        self.asked.append(text)
        yield from ("Par", "is", f"\x1b[31m ({len(self.asked)})")

    def reset(self) -> None:
        self.asked = []


class ToyModel:
    def stream(self, text: str, settings: Any) -> Iterator[str]:
        yield from (" and", f" so on {settings}")

    def chat(self, settings: Any) -> ToyChat:
        return ToyChat()


class ToyPipeline:
    """Stands in for the pipeline: remembers what it was asked for; `failure` is raised by `run`."""

    VERBS = {"run": "export", "prepare": "conversations", "evaluate": "evaluate"}

    def __init__(self, folder: Path, failure: BaseException | None = None) -> None:
        self.folder, self.failure = folder, failure
        self.asked: list[Any] = []
        self.runtime = SimpleNamespace(devices=1, nodes=1, ranks=1, fewest_nodes=1, rendezvous="", restarts=3)

    def load_recipe(self, path: str, overrides: list[str]) -> Any:
        self.asked.append((path, overrides))
        return SimpleNamespace(name="atlas", runtime=self.runtime)

    def run(self, recipe: Any, until: str, **given: Any) -> Any:
        self.asked.append(until)
        if self.failure:
            raise self.failure
        stages = json.loads((self.folder / "stages.json").read_text())
        return SimpleNamespace(name="atlas", folder=self.folder, model_folder=self.folder / "model", stages=stages)

    def run_folder(self, recipe: Any) -> Path:
        return self.folder

    def explain(self, recipe: Any, document_id: str) -> Any:
        self.asked.append(document_id)
        if self.failure:
            raise self.failure
        place = {"path": "/x/a.jsonl", "record": 7, "member": "", "offset_bytes": 90, "section_bytes": None}
        said = {"outcome": "rejected", "reason": "not valid JSON", "excerpt": "{\x1b", "reached": True, "added": []}
        return {"id": document_id, "format": "JSON lines", **place, **said}


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ToyPipeline:
    """The command with a toy pipeline and a toy model; other rooms are the real ones."""
    pipeline = ToyPipeline(make_run(tmp_path / "work"))
    talk = SimpleNamespace(
        generation=lambda options: options["temperature"], load_target=lambda target, words: (ToyModel(), list(words))
    )
    real = rooms.room
    monkeypatch.setattr(rooms, "room", lambda name: {"pipeline": pipeline, "talk": talk}.get(name) or real(name))
    return pipeline


def command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "groundup", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **options,
    )


def test_help_answers_at_once_and_names_every_verb_and_exit_code() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = command("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime <= STARTUP_CPU_SECONDS
    assert done.returncode == 0
    assert done.stderr == ""
    assert all(f"  {verb} " in done.stdout for verb in cli.VERBS)
    assert all(str(code) in done.stdout for code in errors.EXIT_CODES)
    assert max(map(len, done.stdout.splitlines())) <= 120


def test_the_command_itself_imports_nothing_heavy() -> None:
    script = "import sys, groundup.cli; print([n for n in ('torch', 'pydantic', 'yaml', 'rich') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("arguments", [(), ("help",), ("-h",)])
def test_asked_for_nothing_it_helps(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 0
    assert "usage: groundup VERB RECIPE" in capsys.readouterr().out


def test_it_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("groundup ")


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_every_verb_has_help_of_its_own(verb: str) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([verb, "--help"])
    assert caught.value.code == 0


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["rum", "x.yaml"], "did you mean 'run'?"),
        (["\x1b[31mx"], "is no verb"),
        (["q" * 60], "`groundup --help` lists them"),
        (["recipes/smoke.yaml"], "groundup run recipes/smoke.yaml"),
        (["run"], "give a recipe"),
        (["run", "x.yaml", "--jsn"], "did you mean --json?"),
        (["run", "x.yaml", "--temperature", "1"], "unrecognized arguments"),
        (["chat", "x", "--top-k", "many"], "invalid int value"),
        (["run", "gone.yaml"], "no such recipe"),
        (["verify", "gone"], "no such folder"),
        (["evaluate", "."], "of a model folder say what to measure"),
    ],
)
def test_wrong_usage_is_one_line_with_the_remedy(
    arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    first = captured.err.splitlines()[0]
    assert hint in first
    assert captured.out == ""
    assert len(first) <= len("groundup: ") + 200
    assert "Traceback" not in captured.err
    assert "\x1b" not in captured.err


def test_prepare_explains_a_record_and_prepares_nothing(toy: ToyPipeline, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["prepare", "--explain", "web/a.jsonl:7", "r.yaml", "seed=2"]) == 0
    assert toy.asked == [("r.yaml", ["seed=2"]), "web/a.jsonl:7"]
    assert capsys.readouterr().out.splitlines() == [
        "web/a.jsonl:7: rejected (not valid JSON)",
        "  found     /x/a.jsonl, record 7, at byte 90 (JSON lines)",
        "  because   not valid JSON: {\\x1b",
    ]
    assert cli.main(["prepare", "r.yaml", "--explain", "web/a.jsonl:7", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outcome"] == "rejected"
    toy.failure = DataError("web/a.jsonl:9: the file has no such record", details=["web/a.jsonl:7"])
    assert cli.main(["prepare", "r.yaml", "--explain", "web/a.jsonl:9"]) == 3


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (DataError("no document was kept", details=["3 x too short"]), 3),
        (ModelFileError("damaged"), 4),
        (LockedError("held by process 1"), 5),
        (OSError(28, "No space left on device", "/x"), 6),
        (MemoryError(), 6),
        (DivergedError("step 7"), 7),
        (Interrupted("asked to stop; saved", 75), 75),
        (Interrupted("Ctrl-C; saved", 130), 130),
        (KeyboardInterrupt(), 130),
    ],
)
def test_failures_end_in_their_documented_code(
    failure: BaseException, code: int, toy: ToyPipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.failure = failure
    assert cli.main(["run", "toy.yaml"]) == code
    assert code in errors.EXIT_CODES
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert ("  3 x too short" in captured.err) == (code == 3)


def test_several_devices_are_ranks_of_the_same_command(
    toy: ToyPipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    vars(toy.runtime).update(devices=2, ranks=2)
    started: list[Any] = []

    def start(given: list[str], processes: int, meeting: Any, *, restarts: int, events: Path, lost: Any) -> None:
        started.append((given, processes, meeting.nodes, meeting.min_nodes, meeting.endpoint, restarts))

    known, room = rooms.room, SimpleNamespace(start=start, Meeting=agent.Meeting)
    monkeypatch.setattr(rooms, "room", lambda name: room if name == "torchrun" else known(name))
    assert cli.main(["run", "toy.yaml", "-q"]) == 0
    assert started == [(["run", "toy.yaml", "-q"], 2, 1, 1, "", 3)] and toy.asked == [("toy.yaml", [])]
    assert cli.main(["prepare", "toy.yaml"]) == 0
    assert toy.asked[-1] == "conversations", "text needs no ranks"
    vars(toy.runtime).update(nodes=3, fewest_nodes=2, ranks=6)
    assert cli.main(["run", "toy.yaml"]) == 2
    assert "runtime.nodes is 3: say where they meet, runtime.rendezvous=" in capsys.readouterr().err
    toy.runtime.rendezvous = "first:29500"
    assert cli.main(["run", "toy.yaml"]) == 0
    assert started[-1] == (["run", "toy.yaml"], 2, 3, 2, "first:29500", 3)


def test_a_rank_leaves_its_error_to_the_command_that_started_it(
    toy: ToyPipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = launcher.Place(1, 2, 1, 2, "127.0.0.1", 1, attempt=0, reports=tmp_path)
    monkeypatch.setattr(launcher, "place", lambda: place)
    monkeypatch.setattr(launcher, "end_with_parent", lambda: None)
    monkeypatch.setattr(stages, "_meet", lambda place, layout: None)
    toy.runtime.parallel = None
    toy.failure = DataError("no document was kept", details=["3 x too short"])
    assert cli.main(["run", "toy.yaml"]) == 3
    assert capsys.readouterr().err == ""
    words = torchrun.last_words(tmp_path)[1]
    assert (words.exit_code, words.message, words.follows, words.again) == (3, "no document was kept", False, False)
    assert words.error().details == ["3 x too short"]
    monkeypatch.setattr(launcher, "place", lambda: dataclasses.replace(place, reports=None))
    assert cli.main(["run", "toy.yaml"]) == 3
    assert capsys.readouterr().err.startswith("groundup (rank 1): no document was kept")
    toy.failure = errors.LostRankError("rank 1 of 2: another rank ended")
    assert cli.main(["run", "toy.yaml"]) == 6
    assert capsys.readouterr().err == "", "the rank that ended says why"


def test_verbose_shows_the_trace_of_an_error(toy: ToyPipeline, capsys: pytest.CaptureFixture[str]) -> None:
    toy.failure = DataError("no document was kept")
    assert cli.main(["run", "toy.yaml", "-v"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_an_unexpected_error_says_where_to_report_it(toy: ToyPipeline, capsys: pytest.CaptureFixture[str]) -> None:
    toy.failure = ZeroDivisionError("division by zero")
    assert cli.main(["run", "toy.yaml"]) == 1
    captured = capsys.readouterr().err.splitlines()
    assert captured[0] == "groundup: unexpected error, a fault of Groundup: ZeroDivisionError: division by zero"
    assert "please report it" in captured[1]
    assert captured[2].startswith("Traceback")


def test_with_json_even_an_error_is_one_object(toy: ToyPipeline, capsys: pytest.CaptureFixture[str]) -> None:
    toy.failure = DataError("no document \x1b was kept", details=["a"])
    assert cli.main(["run", "toy.yaml", "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    message = "no document \\x1b was kept"
    assert found == {"error": {"exit_code": 3, "kind": "data", "message": message, "details": ["a"]}}


def test_run_prints_stages_figures_and_what_to_do_next(toy: ToyPipeline, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(toy.folder), "-q"]) == 0
    capsys.readouterr()
    assert cli.main(["run", "toy.yaml", "seed=3", "--json", "pretrain.tokens=5"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert toy.asked == [("toy.yaml", ["seed=3", "pretrain.tokens=5"]), "export"]
    assert found["figures"]["metrics"]["exact_match"]["value"] == 0.934
    assert found["report"].endswith("report.html")
    assert cli.main(["prepare", "toy.yaml"]) == 0
    text = capsys.readouterr().out
    assert toy.asked[-1] == "conversations"
    for part in (
        "pretrain",
        "214.3 s",
        "9,441,600 parameters",
        "exact match: 93.4% ± 0.8",
        "before instruction tuning 0.0%",
    ):
        assert part in text, part
    assert 'ask it: groundup chat toy.yaml "..."' in text
    assert cli.main(["run", "toy.yaml", "seed=3"]) == 0
    assert f'ask it: groundup chat {toy.folder} "..."' in capsys.readouterr().out, "toy.yaml alone is another run"


def test_generate_goes_on_with_a_text(toy: ToyPipeline, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["generate", "toy.yaml", "Once", "upon", "--temperature", "0.5"]) == 0
    assert capsys.readouterr().out == "Once upon and so on 0.5\n"
    assert cli.main(["generate", "toy.yaml", "Once", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"prompt": "Once", "continuation": " and so on None"}


def test_chat_answers_questions_for_scripts(
    toy: ToyPipeline, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["chat", "toy.yaml", "What?"]) == 0
    assert capsys.readouterr().out == "Paris\\x1b[31m (1)\n"
    assert cli.main(["chat", "toy.yaml", "What?", "Who?"]) == 0
    assert capsys.readouterr().out == "> What?\nParis\\x1b[31m (1)\n> Who?\nParis\\x1b[31m (1)\n"
    monkeypatch.setattr("sys.stdin", SimpleLines(["What?\n", "\n", "Who?\n"]))
    assert cli.main(["chat", "toy.yaml", "--json"]) == 0
    assert [answer["question"] for answer in json.loads(capsys.readouterr().out)["answers"]] == ["What?", "Who?"]
    monkeypatch.setattr("sys.stdin", None)
    assert cli.main(["chat", "toy.yaml"]) == 2
    assert cli.main(["generate", "toy.yaml"]) == 2


class SimpleLines:
    """Standard input of these lines; on a terminal or not."""

    def __init__(self, lines: list[str], terminal: bool = False) -> None:
        self.lines, self.terminal = lines, terminal

    def isatty(self) -> bool:
        return self.terminal

    def __iter__(self) -> Iterator[str]:
        return iter(self.lines)


def test_chat_on_a_terminal_is_a_conversation(
    toy: ToyPipeline, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = iter(["What?", "Who?", "", "/reset", "Where?", "/quit", "never"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed))
    monkeypatch.setattr("sys.stdin", SimpleLines([], terminal=True))
    assert cli.main(["chat", "toy.yaml"]) == 0
    captured = capsys.readouterr()
    assert captured.out.split("\n") == ["Paris\\x1b[31m (1)", "Paris\\x1b[31m (2)", "", "Paris\\x1b[31m (1)", ""]
    assert "/reset forgets" in captured.err
    assert next(typed) == "never"


def test_report_and_verify_take_a_run_or_its_recipe(toy: ToyPipeline, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(toy.folder)]) == 0
    assert capsys.readouterr().out.strip() == str(toy.folder / "report.html")
    assert cli.main(["report", "toy.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "atlas"
    assert cli.main(["report", str(toy.folder / "gone")]) == 3


def test_verify_prints_a_hash_or_the_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from groundup import stage

    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.txt").write_text("content")
    stage.seal(tmp_path / "a", {})
    assert cli.main(["verify", str(tmp_path / "a")]) == 0
    state_hash, path = capsys.readouterr().out.split()
    assert (len(state_hash), path) == (16, str(tmp_path / "a"))
    (tmp_path / "a" / "x.txt").write_text("CONTENT")
    (tmp_path / "a" / "y.txt").write_text("")
    assert cli.main(["verify", str(tmp_path / "a"), "--json"]) == 4
    captured = capsys.readouterr()
    assert "2 faults: x.txt: content differs" in captured.err
    assert "  y.txt: not in the manifest" in captured.err
    assert json.loads(captured.out)["error"]["exit_code"] == 4


def test_doctor_ends_well_and_speaks_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    assert "python" in capsys.readouterr().out
    assert cli.main(["doctor", "--json"]) == 0
    assert {finding["name"] for finding in json.loads(capsys.readouterr().out)["findings"]} >= {"torch", "memory"}


def test_a_reader_that_had_enough_is_no_failure() -> None:
    shell = f"{sys.executable} -m groundup doctor | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    assert done.stdout == "0\n"


@pytest.mark.parametrize(("redirect", "code"), [(">&-", 0), ("2>&-", 0), ("<&-", 0), ("> /dev/full", 6)])
def test_closed_and_full_streams_end_without_a_trace(redirect: str, code: int) -> None:
    shell = f"{sys.executable} -m groundup doctor {redirect}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_text_that_the_terminal_cannot_show_is_escaped() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = command("verify", "日本", env=environment)
    assert done.returncode == 2
    assert "\\u65e5" in done.stderr


def test_colour_is_for_terminals_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    cli.main(["rum"])
    assert "\x1b[31m" in capsys.readouterr().err
    monkeypatch.setenv("NO_COLOR", "1")
    cli.main(["rum"])
    assert "\x1b" not in capsys.readouterr().err


def test_ctrl_c_ends_with_its_code_and_no_trace() -> None:
    script = """
import signal, sys, time
from groundup import cli
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell started in the background
def wait(options):
    print("ready", flush=True)
    time.sleep(60)
cli.VERBS["doctor"] = cli.Verb("", "", wait)
sys.exit(cli.main(["doctor"]))
"""
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", script], stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error == "groundup: interrupted; the same command goes on from what is finished\n"


@pytest.mark.parametrize("words", [["nonsense"], ["nonsense", "--json"]])
def test_a_closed_pipe_or_terminal_changes_no_exit_code(words: list[str]) -> None:
    there, here = os.pipe()
    os.close(there)
    main_side, terminal = pty.openpty()
    os.close(main_side)
    for nobody in (here, terminal):
        command = [sys.executable, "-m", "groundup", *words]
        done = subprocess.run(command, stdout=nobody, stderr=nobody, timeout=60, check=False)
        assert done.returncode == 2
        os.close(nobody)


def test_another_broken_pipe_than_that_of_the_results_is_an_error(
    toy: ToyPipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.failure = BrokenPipeError(errno.EPIPE, "Broken pipe")
    assert cli.main(["run", "recipe.yaml"]) == 1
    assert "BrokenPipeError" in capsys.readouterr().err
