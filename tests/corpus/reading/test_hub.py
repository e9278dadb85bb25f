"""Datasets by hub name, against a stand-in of the hub on this machine; and without any network."""

import gzip
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import pytest
from pydantic import ValidationError

from groundup.corpus.prepare import CorpusConfig, build_corpus, raw_identity
from groundup.corpus.reading import hub as hub_module
from groundup.corpus.reading import layouts
from groundup.corpus.reading.sources import SourceConfig
from groundup.errors import DataError, first_line

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LINES = [json.dumps({"text": f"A text of the dataset with the number {i * 7919}."}) for i in range(20)]
FILES = {
    "README.md": b"---\nconfigs:\n- config_name: default\n  data_files:\n"
    b"  - {split: train, path: data/train*}\n  - {split: test, path: data/test*}\n---\n",
    ".gitattributes": b"x",
    "loader.py": b"raise SystemExit('never run')",
    "data/train-0.jsonl": "\n".join(LINES[:10]).encode(),
    "data/train-1.jsonl.gz": gzip.compress("\n".join(LINES[10:]).encode()),
    "data/test-0.jsonl": b'{"text": "held out"}\n',
}


class Hub(BaseHTTPRequestHandler):
    """What the client asks of the real hub for a public dataset of plain files."""

    asked: list[str] = []

    def do_GET(self):
        self.asked.append(f"{self.command} {self.path}")
        if self.path.startswith("/api/datasets/someone/texts/revision/"):
            if "nowhere" in self.path:
                return self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            siblings = [
                {"rfilename": name, "size": len(data), "blobId": hashlib.sha1(data).hexdigest()}
                for name, data in FILES.items()
            ]
            about = {"id": "someone/texts", "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}
            return self._answer(200, json.dumps(about).encode(), {"Content-Type": "application/json"})
        prefix = f"/datasets/someone/texts/resolve/{COMMIT}/"
        name = self.path.removeprefix(prefix)
        if self.path.startswith(prefix) and name in FILES:
            etag = hashlib.sha1(FILES[name]).hexdigest()
            return self._answer(200, FILES[name], {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
        return self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def _answer(self, status, data, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_args):
        pass


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    use_endpoint(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    monkeypatch.chdir(tmp_path)
    Hub.asked.clear()
    yield Hub
    server.shutdown()
    server.server_close()
    thread.join()


def use_endpoint(monkeypatch, endpoint):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # other tests ask for that
    monkeypatch.setattr(hub_module, "_api", lambda: huggingface_hub.HfApi(endpoint=endpoint, token=False))


def config(**options):
    source = {"name": "h", "hub": "someone/texts", **options}
    return CorpusConfig.model_validate_json(json.dumps({"sources": [source], "deduplicate": {"near": False}}))


def test_a_dataset_by_name_is_read_file_by_file(stand_in, tmp_path):
    summary = build_corpus(config(), tmp_path, tmp_path / "work")
    assert (summary["total"], summary["kept"]) == (20, 20)
    report = json.loads((tmp_path / "work" / "report.json").read_text())
    assert [file["name"] for file in report["files"]] == ["data/train-0.jsonl", "data/train-1.jsonl.gz"]
    assert {skipped["name"]: skipped["reason"] for skipped in report["skipped"]["examples"]} == {
        ".gitattributes": "hidden",
        "README.md": "dataset card",
        "data/test-0.jsonl": "not of split 'train'",
        "loader.py": "not a known file type (.py)",
    }
    assert not any("loader.py" in line for line in stand_in.asked)
    assert list(tmp_path.rglob("hub-*")) == [], "copies go after reading"


def test_identity_is_the_commit_s_files_without_fetching_them(stand_in, tmp_path):
    identity = raw_identity(config(dataset_split="test"), tmp_path)
    assert identity["sources"][0]["files"] == [
        ["data/test-0.jsonl", hashlib.sha1(FILES["data/test-0.jsonl"]).hexdigest()]
    ]
    assert not any("/data/" in line for line in stand_in.asked)


def test_include_chooses_files(stand_in, tmp_path):
    summary = build_corpus(config(include=["data/*-0.jsonl"], dataset_split="all"), tmp_path, tmp_path / "work")
    assert summary["total"] == 11


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hub": "someone/none"}, "no such dataset"),
        ({"hub_revision": "nowhere"}, "no such revision"),
        ({"dataset_split": "validation"}, "set dataset_split"),
        ({"dataset_config": "fr"}, "set dataset_config"),
    ],
)
def test_what_is_not_there_is_said_with_the_remedy(stand_in, tmp_path, options, words):
    with pytest.raises(DataError, match=words) as caught:
        raw_identity(config(**options), tmp_path)
    assert len(first_line(caught.value)) <= 200


def test_without_a_network_the_remedy_is_a_path(monkeypatch, tmp_path):
    use_endpoint(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(DataError, match="hub someone/texts: the hub cannot be reached") as caught:
        raw_identity(config(), tmp_path)
    assert "give its path" in first_line(caught.value)


def test_a_file_that_changes_its_size_stops_the_run(stand_in, tmp_path, monkeypatch):
    source = config().sources[0]
    files = hub_module.find_source(source, tmp_path).files
    monkeypatch.setitem(FILES, "data/train-0.jsonl", b"{}")
    with pytest.raises(DataError):
        hub_module.fetch(files[0].remote, tmp_path)


@pytest.mark.parametrize("name", ["texts", "a/b/c", "../etc/passwd", "a/..", "https://hub/a", "-a/b"])
def test_names_that_are_no_dataset_are_refused(name):
    with pytest.raises(ValidationError):
        SourceConfig(name="h", hub=name)


def test_a_source_has_either_a_path_or_a_hub_name():
    for places in ({}, {"path": "a", "hub": "a/b"}):
        with pytest.raises(ValidationError, match="either a path or a hub name"):
            SourceConfig(name="h", **places)


def test_a_local_copy_of_the_repository_is_read_the_same_way(tmp_path, monkeypatch):
    for name, data in FILES.items():
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / name).write_bytes(data)
    found = hub_module.find_source(SourceConfig(name="h", path=str(tmp_path / "copy")), tmp_path)
    assert [file.name for file in found.files] == ["data/train-0.jsonl", "data/train-1.jsonl.gz"]
    assert layouts.CARD in {skipped.name for skipped in found.skipped}
