"""A server is asked once for each piece, waited for while it is busy, and never trusted."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import ValidationError

from groundup.corpus.augment.endpoint import Endpoint, EndpointConfig, Refused
from groundup.corpus.augment.rewriting import RewriteConfig, Rewriter
from groundup.errors import DataError, ResourceError, first_line


class Server(BaseHTTPRequestHandler):
    """Answers with what `replies` holds, in order; then with the last line of the prompt in capitals."""

    replies: list = []
    requests: list = []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append((self.path, self.headers.get("Authorization"), body))
        text = body["messages"][0]["content"].rpartition("\n\n")[2].upper()
        good = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
        status, data = self.replies.pop(0) if self.replies else (200, good)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *given):
        pass


@pytest.fixture
def server():
    Server.replies, Server.requests = [], []
    running = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{running.server_address[1]}/v1"
    running.shutdown()
    thread.join()
    running.server_close()


def config(url, endpoint=None, **options):
    given = {"url": url, "model": "m", "timeout_seconds": 5.0, "attempts": 3, **(endpoint or {})}
    return RewriteConfig(name="p", fraction=1.0, endpoint=EndpointConfig(**given), **options)


def asked(settings, places=()):
    waits = []
    whose = f"corpus.augment '{settings.name}': the same command goes on"
    given = {"temperature": settings.temperature, "max_tokens": settings.max_tokens, "whose": whose}
    return Endpoint(settings.endpoint, places, **given, wait=waits.append), waits


def test_an_answer_is_asked_for_once(server, tmp_path):
    settings = config(server, piece_characters=200)
    text = "\n\n".join(["a" * 150, "b" * 150])
    for _ in range(2):
        rewriter = Rewriter(settings, asked(settings)[0], tmp_path)
        assert rewriter.rewrite(text, "seed") == text.upper()
    assert len(Server.requests) == 2
    path, key, body = Server.requests[0]
    assert (path, key, body["model"]) == ("/v1/chat/completions", None, "m")
    Rewriter(settings, asked(settings)[0], tmp_path).rewrite(text, "another seed")
    assert len(Server.requests) == 4


def test_back_translation_goes_through_a_language(server, tmp_path):
    settings = config(server, through="German", language="English")
    assert Rewriter(settings, asked(settings)[0], tmp_path).rewrite("text", "s") == "TEXT"
    prompts = [body["messages"][0]["content"] for _, _, body in Server.requests]
    assert ["German" in prompts[0], "English" in prompts[1]] == [True, True]


def test_the_key_comes_from_a_file(server, tmp_path):
    (tmp_path / "key").write_text("secret\n")
    endpoint, _ = asked(config(server, {"api_key_file": "key"}), (tmp_path,))
    endpoint("prompt", 1)
    assert Server.requests[0][1] == "Bearer secret"
    with pytest.raises(DataError, match="api_key_file"):
        asked(config(server, {"api_key_file": "none"}), (tmp_path,))


def test_a_busy_server_is_waited_for(server):
    Server.replies = [(503, b""), (429, b"")]
    endpoint, waits = asked(config(server))
    assert endpoint("a\n\nb", 1) == "B"
    assert waits == [1.0, 2.0]


@pytest.mark.parametrize(("replies", "word"), [([(503, b"")] * 3, "503"), ([(401, b"")], "401"), ([(302, b"")], "302")])
def test_a_server_that_stays_away_stops_the_run(server, replies, word):
    Server.replies = replies
    with pytest.raises(ResourceError) as caught:
        asked(config(server))[0]("prompt", 1)
    assert word in first_line(caught.value)
    assert "the same command goes on" in first_line(caught.value)
    assert all(path == "/v1/chat/completions" for path, _, _ in Server.requests)


def test_nobody_there():
    with pytest.raises(ResourceError):
        asked(config("http://127.0.0.1:9", {"attempts": 1}))[0]("prompt", 1)


@pytest.mark.parametrize(
    "reply",
    [
        (400, b""),
        (200, b"no json"),
        (200, b"[]"),
        (200, b'{"choices": []}'),
        (200, b'{"choices": [{"message": {"content": null}}]}'),
    ],
)
def test_an_answer_that_is_none_is_refused(server, reply):
    Server.replies = [reply]
    with pytest.raises(Refused):
        asked(config(server))[0]("prompt", 1)


def test_an_empty_answer_is_refused(server, tmp_path):
    Server.replies = [(200, b'{"choices": [{"message": {"content": " "}}]}')]
    settings = config(server)
    with pytest.raises(Refused, match="empty answer"):
        Rewriter(settings, asked(settings)[0], tmp_path).rewrite("text", "s")


def test_a_damaged_cache_is_asked_again(server, tmp_path):
    settings = config(server)
    Rewriter(settings, asked(settings)[0], tmp_path).rewrite("text", "s")
    (cached,) = tmp_path.rglob("*.json")
    cached.write_text("{")
    assert Rewriter(settings, asked(settings)[0], tmp_path).rewrite("text", "s") == "TEXT"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "one of endpoint and model_folder"),
        ({"endpoint": {"url": "file:///etc", "model": "m"}}, "http"),
        ({"model_folder": "x", "through": "German", "instruction": "do"}, "one of through and instruction"),
    ],
)
def test_configs_that_are_refused(options, words):
    with pytest.raises(ValidationError, match=words):
        RewriteConfig(name="p", fraction=1.0, **options)
