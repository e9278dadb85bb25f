"""A cluster whose nodes differ, or do not see the same files, is refused by the name of the node."""

import os

import pytest

from groundup.corpus.engines import cluster_nodes
from groundup.errors import ResourceError


def test_a_node_without_the_folder_or_the_file_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_nodes, "_SIGHT_SECONDS", 0)
    here, shared = os.getcwd(), tmp_path / "shared"
    assert "No such file" in cluster_nodes._look(str(tmp_path / "none"), shared, "t", "n")[1]
    shared.mkdir()
    assert "does not see files" in cluster_nodes._look(here, shared, "t", "n")[1]
    (shared / "seen-t").write_text("t")
    versions, problem = cluster_nodes._look(here, shared, "t", "n")
    assert (problem, versions) == ("", cluster_nodes._versions())
    assert (shared / "seen-t-n").read_text() == "t"


class OneNode:
    """What `check_nodes` asks of Ray, with a node that answers what it is told to."""

    class exceptions:
        RayError = RuntimeError

    def __init__(self, answer, writes):
        self.answer, self.writes = answer, writes

    def nodes(self):
        return [{"NodeID": "n", "Alive": True, "Resources": {"CPU": 1}, "NodeManagerHostname": "far"}]

    def cluster_resources(self):
        return {"CPU": 1}

    def remote(self, *arguments, **options):
        return arguments or (lambda function: self)

    def options(self, **options):
        return self

    def get(self, reference, timeout):
        _, shared, token, node = reference
        if self.writes:
            (shared / f"seen-{token}-{node}").write_text(token)
        return self.answer


@pytest.mark.parametrize(
    ("answer", "writes", "message"),
    [
        (None, True, None),
        (None, False, r"far: its files in .* are not seen here"),
        (({}, "No such file or directory: /data"), True, r"far: No such file.*shared file system"),
        (({"numpy": "1.0"}, ""), True, r"far: has numpy 1\.0, not "),
    ],
)
def test_nodes_that_differ_are_refused_by_name(tmp_path, monkeypatch, answer, writes, message):
    monkeypatch.setattr(cluster_nodes, "_SIGHT_SECONDS", 0)
    monkeypatch.setattr(cluster_nodes, "_on", lambda node: node)
    ray = OneNode(answer or (cluster_nodes._versions(), ""), writes)
    if message is None:
        cluster_nodes.check_nodes(ray, tmp_path)
    else:
        with pytest.raises(ResourceError, match=message):
            cluster_nodes.check_nodes(ray, tmp_path)
    assert list(tmp_path.iterdir()) == []
