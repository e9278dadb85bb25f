"""A Ray cluster changes nothing but the time: the same bytes, the same errors; lost workers are replaced or told."""

import hashlib
import importlib.util
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from groundup import config as recipe
from groundup.corpus import (
    CorpusConfig,
    LocalEngine,
    build_corpus,
    measure_contamination,
    optional,
    parts,
    prepare,
    read_documents,
)
from groundup.corpus.duplicates import steps
from groundup.corpus.engines import cluster
from groundup.corpus.engines.cluster import RayEngine
from groundup.errors import DataError, RecipeError, ResourceError, first_line

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install 'groundup[ray]'"
)
WORDS = [f"word{i}" for i in range(300)]
STAGES = """
import json, sys
from pathlib import Path
from groundup import config
from groundup.corpus import CorpusConfig, build_corpus, measure_contamination, open_engine, parts, shard_paths
from groundup.tokens import Tokenizer, write_file_shards
parts.PART_BYTES = 1
recipe, folder = config.build(CorpusConfig, json.loads(Path(sys.argv[1]).read_text()), "test"), Path(sys.argv[2])
work, matrix = folder / "ray", folder / "ray-matrix"
for made in (work, matrix):
    made.mkdir()
if __name__ == "__main__":
    with open_engine("ray", 2, "", work) as engine:
        build_corpus(recipe, Path("."), work, engine)
        assert engine._ray is not None
    with open_engine("ray", 2, "", matrix) as engine:
        measure_contamination(work, recipe.decontaminate, Path("."), matrix, engine)
        files, tokenizer = shard_paths(work, "train", "a"), Tokenizer.load(folder / "tokenizer")
        write_file_shards(files, tokenizer, folder / "ray-shards", folder / "ray-scratch", engine, 1000)
"""
FAULTS = """
import json, os, signal, sys
from pathlib import Path
from groundup.corpus.engines.cluster import RayEngine
from groundup.errors import DataError
folder = Path(sys.argv[1])
class Unsendable(Exception):
    def __init__(self, one, two):
        super().__init__(one)
def double(number):
    return 2 * number, os.getpid()
def fail(number):
    if number == 2:
        raise DataError("number 2 is bad; use another", details=["a detail"])
    return number
def fail_unsendable(number):
    raise Unsendable("far away", 2)
def die_once(number):
    mark = folder / f"died-{number}"
    if number == 2 and not mark.exists():
        mark.write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return number
def die(number):
    os.kill(os.getpid(), signal.SIGKILL)
def error_of(function):
    try:
        engine.run_all(function, [1, 2, 3])
    except Exception as error:
        return [type(error).__name__, str(error), getattr(error, "details", []), getattr(error, "__notes__", [])]
if __name__ == "__main__":
    with RayEngine("", 2, folder / "shared") as engine:
        done, told = [], {}
        results = engine.run_all(double, list(range(300, 0, -1)), done.append)
        told["results"], told["workers"] = [number for number, _ in results], len({worker for _, worker in results})
        told["here"] = os.getpid() in {worker for _, worker in results}
        told["done"], told["none"] = sorted(done), engine.run_all(double, [])
        told["fail"], told["unsendable"] = error_of(fail), error_of(fail_unsendable)
        told["die_once"], told["die"] = engine.run_all(die_once, [1, 2, 3]), error_of(die)
    told["left"] = [path.name for path in (folder / "shared").iterdir()]
    print(json.dumps(told))
"""
TWO_NODES = """
import json, sys, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from groundup.corpus.engines.cluster import RayEngine
def where(number):
    time.sleep(0.2)
    return ray.get_runtime_context().get_node_id()
if __name__ == "__main__":
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    told = []
    for name in ("first", "second"):  # the cluster is left as it was found
        with RayEngine(cluster.address, 0, Path(sys.argv[1]) / name) as engine:
            told.append(len(set(engine.run_all(where, list(range(40))))))
    cluster.shutdown()
    print(json.dumps(told))
"""
NO_CLUSTER = """
from pathlib import Path
from groundup.corpus.engines.cluster import RayEngine
from groundup.errors import ResourceError
if __name__ == "__main__":
    try:
        with RayEngine("{address}", 0, Path("shared")) as engine:
            engine.run_all(abs, [1])
    except ResourceError as error:
        print(error)
"""
WAITS = """
import signal
import time
from pathlib import Path
from groundup.corpus.engines.cluster import RayEngine
def wait(number):
    Path("begun").write_text("")
    time.sleep(600)
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    with RayEngine("", 1, Path("shared")) as engine:
        engine.run_all(wait, [1])
"""


def run(script, folder, *arguments, **options):
    """The script in a process of its own: Ray leaves threads, handlers and warnings behind."""
    path = folder / "script.py"
    path.write_text(script)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, str(path), *map(str, arguments)]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, **options)


def output_of(process):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return output


def near_texts(count, seed):
    rng = random.Random(seed)
    texts = [" ".join(rng.choices(WORDS, k=60)) for _ in range(count)]
    return texts + texts[:5] + [f"{text} end" for text in texts[5:15]]


@pytest.fixture
def corpus(tmp_path):
    """Two sources with duplicates in and across them, a line that is frequent, and an evaluation set."""
    (tmp_path / "raw").mkdir()
    for source, numbers in {"a": range(5), "b": range(5, 8)}.items():
        for number in numbers:
            rows = [f"{text}\nthe very same line of them all" for text in near_texts(20, number % 6)]
            lines = [json.dumps({"text": row}) for row in rows] + ['{"text": "cut']
            (tmp_path / "raw" / f"{source}{number}.jsonl").write_text("\n".join(lines) + "\n")
    exam = [{"text": near_texts(1, seed)[0]} for seed in (1, 3)]
    (tmp_path / "exam.jsonl").write_text("".join(json.dumps(row) + "\n" for row in exam))
    (tmp_path / "tokenizer").mkdir()
    return {
        "sources": [{"name": name, "path": str(tmp_path / "raw" / f"{name}*.jsonl")} for name in ("a", "b")],
        "clean": {"repeated_lines": {"across_documents": 3, "min_characters": 10}},
        "decontaminate": [{"name": "exam", "path": str(tmp_path / "exam.jsonl")}],
        "split": {"validation": 0.2},
    }


def bytes_of(*folders):
    return {
        f"{folder.name}/{path.relative_to(folder)}": hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@needs_ray
@pytest.mark.slow
def test_the_bytes_are_those_of_this_process_and_of_two(corpus, tmp_path, monkeypatch):
    from groundup.tokens import Tokenizer, TokenizerConfig, train_tokenizer, write_shards

    train_tokenizer(TokenizerConfig(vocab_size=300), near_texts(20, 1), tmp_path / "tokenizer")
    (tmp_path / "recipe.json").write_text(json.dumps(corpus))
    output_of(run(STAGES, tmp_path, tmp_path / "recipe.json", tmp_path))
    monkeypatch.setattr(parts, "PART_BYTES", 1)
    monkeypatch.setattr(prepare, "_WORTH_PROCESSES_BYTES", 0)
    monkeypatch.setattr(steps, "_WORTH_PROCESSES_TASKS", 1)
    config, found = recipe.build(CorpusConfig, corpus, "test"), {}
    for name, workers in {"none": 0, "two": 2, "ray": None}.items():
        work = tmp_path / name
        if workers is not None:
            work.mkdir()
            build_corpus(config, tmp_path, work, LocalEngine(workers))
        report = (work / "report.json").read_bytes()
        found[name] = [{path.name: path.read_bytes() for path in (work / "documents").iterdir()}, report]
    assert found["ray"] == found["two"] == found["none"]
    report = json.loads(found["ray"][1])
    assert report["contaminated"] and all(report["duplicates"].values()) and len(report["shards"]) > 8
    (tmp_path / "matrix").mkdir()
    measure_contamination(tmp_path / "none", config.decontaminate, tmp_path, tmp_path / "matrix")
    assert bytes_of(tmp_path / "ray-matrix") == {
        f"ray-{name}": value for name, value in bytes_of(tmp_path / "matrix").items()
    }
    documents = read_documents(tmp_path / "none", "train", "a")
    write_shards(documents, Tokenizer.load(tmp_path / "tokenizer"), tmp_path / "shards", 1000)
    assert bytes_of(tmp_path / "ray-shards") == {
        f"ray-{name}": value for name, value in bytes_of(tmp_path / "shards").items()
    }
    assert len(bytes_of(tmp_path / "shards")) > 4


@needs_ray
@pytest.mark.slow
def test_errors_come_as_they_are_and_lost_workers_are_replaced(tmp_path):
    told = json.loads(output_of(run(FAULTS, tmp_path, tmp_path, stderr=subprocess.DEVNULL)).splitlines()[-1])
    assert told["results"] == list(range(600, 0, -2))
    assert told["done"] == list(range(1, 301))
    assert (told["here"], told["none"]) == (False, [])
    assert told["workers"] >= 1
    kind, message, details, notes = told["fail"]
    assert (kind, message, details) == ("DataError", "number 2 is bad; use another", ["a detail"])
    assert "in fail" in notes[0]
    assert told["unsendable"][0] == "RuntimeError" and "far away" in told["unsendable"][1]
    assert told["die_once"] == [1, 2, 3]
    assert told["die"][0] == "ResourceError" and "killed 4 times" in told["die"][1]
    assert told["left"] == []


@needs_ray
@pytest.mark.slow
def test_a_running_cluster_is_used_on_all_nodes_and_left(tmp_path):
    told = json.loads(output_of(run(TWO_NODES, tmp_path, tmp_path, stderr=subprocess.DEVNULL)).splitlines()[-1])
    assert told == [2, 2]


@needs_ray
@pytest.mark.slow
def test_ctrl_c_ends_it_with_all_its_processes(tmp_path):
    process = run(WAITS, tmp_path, stderr=subprocess.DEVNULL)
    wait_for(lambda: (tmp_path / "begun").exists(), 120)
    below = descendants(process.pid)
    assert len(below) > 2
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
    wait_for(lambda: not any(alive(each) for each in below), 60)
    assert list((tmp_path / "shared").iterdir()) == []


def wait_for(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def descendants(pid):
    found = [pid]
    for known in found:
        found += map(int, Path(f"/proc/{known}/task/{known}/children").read_text().split())
    return found[1:]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@needs_ray
@pytest.mark.slow
def test_an_address_where_nothing_listens_is_refused_at_once(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        script = NO_CLUSTER.format(address=address)
        told = output_of(run(script, tmp_path, stderr=subprocess.DEVNULL))
    assert f"runtime.ray_address '{address}' cannot be used ([Errno 111] Connection refused)" in told


def test_without_ray_the_recipe_is_refused_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(optional.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"data_engine: ray needs the package ray.*pip install 'groundup\[ray\]'"):
        RayEngine("", 2, tmp_path)


class Unsendable(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def third_fails(number):
    if number == 3:
        raise DataError("number 3 is bad", details=["why"])
    return number * 10


def unsendable(number):
    raise Unsendable("far away", 2)


def outcomes(function, tasks, marks):
    row = {"first": 7, "tasks": cluster.Carried(tasks)}
    told = list(cluster._perform(function, os.getcwd(), marks, row))
    return [each["number"] for each in told], [(each["outcome"].value, each["outcome"].error) for each in told]


def test_a_bundle_ends_at_its_first_error(tmp_path):
    numbers, told = outcomes(third_fails, [1, 2, 3, 4], tmp_path / "marks")
    assert (numbers, told[:2]) == ([7, 8, 9], [(10, None), (20, None)])
    _, error = told[2]
    assert isinstance(error, DataError) and error.details == ["why"]
    assert list((tmp_path / "marks").iterdir()) == []
    _, error = outcomes(unsendable, [1], tmp_path / "marks")[1][0]
    assert isinstance(error, RuntimeError) and "far away" in str(error)


def test_a_bundle_whose_workers_die_is_given_up(tmp_path):
    (tmp_path / "marks").mkdir()
    (tmp_path / "marks" / "7").write_bytes(b"xxx")
    assert outcomes(third_fails, [1], tmp_path / "marks")[1] == [(10, None)]
    (tmp_path / "marks" / "7").write_bytes(b"xxxx")
    _, error = outcomes(third_fails, [1], tmp_path / "marks")[1][0]
    assert isinstance(error, ResourceError)
    assert "4 times" in first_line(error) and len(error.message) <= 200
