"""A chat template in Jinja -> its renderings, made by a process of their own that may do nothing else.

    Renderer --a line of JSON--> template_child.py, started once and asked many times --a line of JSON--> texts

Invariant: whatever a template does (loops without end, gigabytes, errors), the answer is a text, a `Failed`, or a
ModelFileError within a bounded time; no text of a template or of a record is ever run in this process.
"""

from __future__ import annotations

import json
import os
import secrets
import selectors
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from groundup.errors import ModelFileError, printable
from groundup.tokens import template_child

START_SECONDS = 60.0
"""A started Python on a machine with much else to do."""
_READ_BYTES = 1 << 20

Message = Mapping[str, str]
Asked = tuple[Sequence[Message], bool]
"""Messages, and whether what asks for the next answer is to stand behind them."""


class Failed(NamedTuple):
    """Why a template gives no text for some messages."""

    reason: str


class Outline(NamedTuple):
    """A rendering, where its `generation` blocks stand, and for each answer how long the text is that asks for it (-1:
    that is not its beginning), and how much of it the rendering up to the answer has too.
    """

    text: str
    blocks: list[tuple[int, int]]
    asked: list[int]
    ended: list[int]


class Renderer:
    """Renders one template. Its process begins with the first rendering and ends with this object."""

    def __init__(self, template: str, variables: Mapping[str, str], where: str) -> None:
        self._where = where
        self._first = {"template": template, "variables": dict(variables)}
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def render(self, asked: Sequence[Asked]) -> list[str | Failed]:
        """A text for each. Raises ModelFileError when the template cannot be used at all."""
        if not asked:
            return []
        answer = self._answer({"render": [list(each) for each in asked]}, 0.1 * len(asked))
        return [self._text(each) for each in answer["texts"]]

    def outline(self, messages: Sequence[Message], asking: bool, answers: Sequence[int]) -> Outline | Failed:
        """The rendering of `messages`, and where in it each of `answers` (their numbers) is asked for and ended.

        Raises ModelFileError when the template cannot be used at all.
        """
        marks = [f"<{secrets.token_hex(12)}>" for _ in range(2)]
        answer = self._answer({"outline": [list(messages), asking, list(answers), marks]}, float(len(answers)))
        if "text" not in answer:
            failed = self._text(answer)
            assert isinstance(failed, Failed), "what has no text has an error"
            return failed
        spans = _spans(answer["marked"], marks) if isinstance(answer["marked"], str) else []
        return Outline(answer["text"], spans, answer["asked"], answer["ended"])

    def _answer(self, request: Mapping[str, Any], seconds: float) -> Any:
        """What the process says to a request, which may take so many seconds beside those of a start."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = self._started()
                if fault := self._ask(self._process, self._first, START_SECONDS).get("error"):
                    raise self.fault(printable(str(fault)))
            return self._ask(self._process, request, START_SECONDS + template_child.SECONDS + seconds)

    def _text(self, answer: Any) -> str | Failed:
        if isinstance(answer, str):
            return answer
        reason = printable(str(answer["error"]))
        if answer["fatal"]:
            raise self.fault(reason)
        return Failed(reason)

    def fault(self, reason: str) -> ModelFileError:
        """The error that says why the template cannot be used."""
        return ModelFileError(
            f"{self._where}: its chat template cannot be used: {reason[:56].rstrip()}; take ours: "
            "tokenizer.chat_template=own, import --chat-template own",
            details=[reason],
        )

    def _started(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(  # noqa: S603 - our own program, no shell
            [sys.executable, "-I", "-B", str(Path(template_child.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=os.sep,
            env={},
        )
        weakref.finalize(self, _end, process)
        return process

    def _ask(self, process: subprocess.Popen[bytes], request: Mapping[str, Any], seconds: float) -> Any:
        assert process.stdin is not None and process.stdout is not None, "both are pipes"
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            return json.loads(_line(process.stdout, time.monotonic() + seconds))
        except (OSError, ValueError):
            _end(process)
            raise self.fault("rendering it took too much time or memory") from None
        except TimeoutError:
            _end(process)
            raise self.fault(f"no answer within {seconds:.0f} s") from None


def _spans(marked: str, marks: Sequence[str]) -> list[tuple[int, int]]:
    """Where blocks stand in a rendering once the marks around them are taken out."""
    spans: list[tuple[int, int]] = []
    begin, end = marks
    while (at := marked.find(begin)) >= 0:
        behind = marked.index(end, at)
        marked = marked[:at] + marked[at + len(begin) : behind] + marked[behind + len(end) :]
        spans.append((at, behind - len(begin)))
    return spans


def _line(stdout: Any, until: float) -> bytes:
    """One line, read as it comes. Raises TimeoutError; what ends without a line end is no JSON."""
    pieces: list[bytes] = []
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        while not pieces or not pieces[-1].endswith(b"\n"):
            if not selector.select(max(0.0, until - time.monotonic())):
                raise TimeoutError
            piece = os.read(stdout.fileno(), _READ_BYTES)
            if not piece:
                break
            pieces.append(piece)
    return b"".join(pieces)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and take its leavings."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:  # what was still to be written has nobody to read it
                continue
