"""Pairs made here, and a server that judges."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from groundup.compare.pairs import Pair, pairs_of
from groundup.compare.prompts import Prompt
from groundup.tokens import Turn


def made(*answers: tuple[str, str], reference: str | None = "right") -> list[Pair]:
    """A pair of answers to each of some prompts, named 0, 1, ..."""
    prompts = [Prompt(str(place), (Turn("user", f"question {place}"),), reference) for place in range(len(answers))]
    return pairs_of(prompts, [one for one, _ in answers], [other for _, other in answers])


class Judging(BaseHTTPRequestHandler):
    """Replies with `reply(prompt, how many requests before)`: a status, and a text or bytes."""

    reply: Callable[[str, int], tuple[int, str | bytes]]
    requests: list[tuple[str | None, dict[str, Any]]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append((self.headers.get("Authorization"), body))
        status, said = type(self).reply(body["messages"][0]["content"], len(self.requests) - 1)
        data = said if isinstance(said, bytes) else json.dumps({"choices": [{"message": {"content": said}}]}).encode()
        with suppress(OSError):  # who asked may be gone by now
            self.send_response(status)
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, *given: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Judging.requests = []
    running = ThreadingHTTPServer(("127.0.0.1", 0), Judging)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{running.server_address[1]}/v1"
    running.shutdown()
    thread.join()
    running.server_close()
