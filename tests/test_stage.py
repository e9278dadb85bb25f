"""Stages: finished or resumable, locked, hashed; whatever kills them, the same command ends with the same bytes."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from groundup import stage
from groundup.errors import DataError, LockedError, ModelFileError, ResourceError, first_line
from groundup.stage import Stage, bring, finished, seal, verify

TOY = Stage("toy", {"seed": 1, "text": "é"})

# Writes eight files one by one, with a pause in each, going on from those that are there; then two at once at the end.
WORKER = """
import os, sys, time
from pathlib import Path
from groundup.stage import Stage, bring, write_text

def build(work):
    for index in range(8):
        path = work / f"shard-{index}.txt"
        if not path.exists():
            write_text(path, f"shard {index}\\n" * 1000)
            time.sleep(0.004)
    (work / "logs").mkdir(exist_ok=True)
    (work / "logs" / "time.txt").write_text(str(time.time()))
    return {"shards": 8}

print("ready", flush=True)
done = bring(Stage("toy", {"seed": 1}, resumable=sys.argv[2] == "resumable"), Path(sys.argv[1]), build)
print(done.path, flush=True)
"""


def build_toy(work: Path) -> dict[str, Any]:
    (work / "inner").mkdir()
    (work / "inner" / "a.txt").write_text("content")
    (work / "b.bin").write_bytes(bytes(range(256)))
    (work / "logs").mkdir()
    (work / "logs" / "events.jsonl").write_text(f'{{"time": {time.time_ns()}}}\n')
    return {"files": 3}


def start(workdir: Path, kind: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WORKER, str(workdir), kind], stdout=subprocess.PIPE, text=True)


def test_a_stage_is_built_once_and_says_what_it_did(tmp_path: Path) -> None:
    done = bring(TOY, tmp_path, build_toy, runtime={"workers": 2})
    assert done.path == TOY.folder(tmp_path)
    assert done.summary == {"files": 3}
    assert done.manifest["runtime"] == {"workers": 2}
    assert done.manifest["identity"] == TOY.identity
    assert set(done.manifest["files"]) == {"inner/a.txt", "b.bin", "logs/events.jsonl"}
    assert done.seconds >= 0
    assert "python" in done.manifest["versions"]

    def refuse(work: Path) -> dict[str, Any]:
        raise AssertionError("built twice")

    assert bring(TOY, tmp_path, refuse) == done


def test_only_identity_and_inputs_enter_the_fingerprint(tmp_path: Path) -> None:
    prints = {
        Stage("toy", {"seed": 1}).fingerprint,
        Stage("toy", {"seed": 2}).fingerprint,
        Stage("toy", {"seed": 1}, {"corpus": "abc"}).fingerprint,
        Stage("other", {"seed": 1}).fingerprint,
    }
    assert len(prints) == 4
    assert Stage("toy", {"seed": 1}, resumable=True).fingerprint in prints


@pytest.mark.parametrize("kind", ["resumable", "restarted"])
def test_killed_at_any_moment_the_same_command_ends_with_the_same_bytes(tmp_path: Path, kind: str) -> None:
    reference = start(tmp_path / "reference", kind)
    output, _ = reference.communicate(timeout=60)
    expected, faults = verify(Path(output.split()[-1]))
    assert faults == []
    random_delay = random.Random(5)
    for _ in range(4):
        process = start(tmp_path / "killed", kind)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(random_delay.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    output, _ = start(tmp_path / "killed", kind).communicate(timeout=60)
    folder = Path(output.split()[-1])
    assert verify(folder) == (expected, [])
    assert sorted(p.suffix for p in folder.parent.iterdir()) == ["", ".lock"]


def test_a_kill_between_seal_and_rename_loses_nothing(tmp_path: Path) -> None:
    done = bring(TOY, tmp_path, build_toy)
    partial = done.path.with_name(done.path.name + ".partial")
    os.replace(done.path, partial)
    assert finished(TOY, tmp_path) is None
    assert bring(TOY, tmp_path, lambda work: pytest.fail("built again")).manifest == done.manifest


def test_half_written_files_of_a_killed_attempt_do_not_enter_the_manifest(tmp_path: Path) -> None:
    resumable = Stage("toy", {}, resumable=True)
    partial = resumable.folder(tmp_path).with_name(resumable.fingerprint + ".partial")
    partial.mkdir(parents=True)
    (partial / "report.json.tmp").write_text("half")
    (partial / "shard-0").write_text("whole")
    done = bring(resumable, tmp_path, lambda work: {})
    assert set(done.manifest["files"]) == {"shard-0"}


def test_a_failing_build_leaves_no_finished_stage_and_frees_the_lock(tmp_path: Path) -> None:
    def fail(work: Path) -> dict[str, Any]:
        (work / "half").write_text("x")
        raise DataError("no documents")

    with pytest.raises(DataError):
        bring(TOY, tmp_path, fail)
    assert finished(TOY, tmp_path) is None
    assert set(bring(TOY, tmp_path, build_toy).manifest["files"]) == {"inner/a.txt", "b.bin", "logs/events.jsonl"}


def test_a_second_run_is_told_who_holds_the_stage(tmp_path: Path) -> None:
    holder = start(tmp_path, "resumable")
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        folder = Stage("toy", {"seed": 1}).folder(tmp_path)
        lock_file = folder.with_name(folder.name + ".lock")
        until = time.monotonic() + 30
        while not (lock_file.exists() and lock_file.read_text()) and time.monotonic() < until:
            time.sleep(0.001)
        holder.send_signal(signal.SIGSTOP)
        with pytest.raises(LockedError, match=f"process {holder.pid} on ") as caught:
            bring(Stage("toy", {"seed": 1}, resumable=True), tmp_path, lambda work: {})
        assert len(first_line(caught.value)) <= 200
    finally:
        holder.kill()
        holder.communicate()
    assert bring(Stage("toy", {"seed": 1}, resumable=True), tmp_path, lambda work: {"taken": "over"})


def test_exactly_one_of_many_runs_builds(tmp_path: Path) -> None:
    processes = [start(tmp_path, "resumable") for _ in range(3)]
    codes = [(process.communicate(timeout=60), process.returncode)[1] for process in processes]
    assert codes.count(0) >= 1
    assert verify(Stage("toy", {"seed": 1}).folder(tmp_path))[1] == []


def test_one_flipped_bit_is_found(tmp_path: Path) -> None:
    done = bring(TOY, tmp_path, build_toy)
    content = (done.path / "b.bin").read_bytes()
    for bit in random.Random(3).sample(range(8 * len(content)), 60):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        (done.path / "b.bin").write_bytes(damaged)
        assert verify(done.path)[1] == ["b.bin: content differs from its recorded SHA-256"]
    (done.path / "b.bin").write_bytes(content)
    assert verify(done.path)[1] == []


def test_missing_shorter_and_added_files_are_found(tmp_path: Path) -> None:
    done = bring(TOY, tmp_path, build_toy)
    (done.path / "inner" / "a.txt").unlink()
    (done.path / "b.bin").write_bytes(b"")
    (done.path / "new.txt").write_text("x")
    faults = verify(done.path)[1]
    assert faults == ["b.bin: 0 bytes, 256 recorded", "inner/a.txt: missing", "new.txt: not in the manifest"]


def test_the_state_hash_covers_content_and_names_but_no_times(tmp_path: Path) -> None:
    first = bring(TOY, tmp_path / "one", build_toy)
    second = bring(TOY, tmp_path / "two", build_toy)
    assert verify(first.path) == verify(second.path) == (verify(first.path)[0], [])
    files = dict(first.manifest["files"])
    assert stage.state_hash(files) != stage.state_hash({**files, "c": files["b.bin"]})
    assert stage.state_hash(files) == stage.state_hash({**files, "logs/other": {"sha256": "0"}})


def test_sealed_folders_within_a_stage_are_hashed_and_verified_too(tmp_path: Path) -> None:
    def build(work: Path) -> dict[str, Any]:
        checkpoint = work / "checkpoints" / "step-00000001"
        checkpoint.mkdir(parents=True)
        (checkpoint / "model").write_text("weights")
        seal(checkpoint, {"stage": "checkpoint", "time": time.time_ns()})
        return {}

    one, two = bring(TOY, tmp_path / "one", build), bring(TOY, tmp_path / "two", build)
    assert verify(one.path) == verify(two.path)
    assert verify(one.path)[1] == []
    inner = one.path / "checkpoints" / "step-00000001" / "manifest.json"
    inner.write_text(inner.read_text() + " ")
    assert len(verify(one.path)[1]) == 1


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "unreadable"),
        ("[" * 100_000, "unreadable"),
        ("[1]", "not a manifest"),
        ('{"format": 1}', "not a manifest"),
        ('{"format": 1, "files": {"a": {"bytes": "x"}}}', "not a manifest"),
        ('{"format": 99, "files": {}}', "format version 99"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str, hint: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises((DataError, ModelFileError)) as caught:
        verify(tmp_path)
    assert hint in caught.value.message
    with pytest.raises(DataError, match="no manifest"):
        verify(tmp_path / "gone")


def test_a_manifest_cannot_point_outside_its_folder(tmp_path: Path) -> None:
    entry = {"bytes": 0, "sha256": "0"}
    content = {"format": 1, "files": {"../secret": entry, "/etc/passwd": entry}}
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    assert verify(tmp_path)[1] == ["../secret: points outside the folder", "/etc/passwd: points outside the folder"]


def test_a_folder_that_lost_its_manifest_is_not_trusted(tmp_path: Path) -> None:
    done = bring(TOY, tmp_path, build_toy)
    (done.path / "manifest.json").unlink()
    with pytest.raises(DataError, match="remove the folder"):
        bring(TOY, tmp_path, build_toy)


def test_files_are_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    stage.write_json(path, {"old": 1})
    with pytest.raises(ValueError, match="JSON"):
        stage.write_json(path, {"new": float("nan")})
    assert json.loads(path.read_text()) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_space_is_asked_for_before_a_write(tmp_path: Path) -> None:
    stage.require_space(tmp_path, 1, "a checkpoint")
    with pytest.raises(ResourceError, match="a checkpoint needs"):
        stage.require_space(tmp_path, 1 << 62, "a checkpoint")


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not let a test mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_a_resource_error_and_harms_nothing(mounted: Path) -> None:
    first = bring(TOY, mounted, build_toy)

    def too_much(work: Path) -> dict[str, Any]:
        (work / "big").write_bytes(b"x" * (2 << 20))
        return {}

    with pytest.raises(ResourceError, match="no space left"):
        bring(Stage("big", {}), mounted, too_much)
    assert verify(first.path)[1] == []
    assert bring(Stage("big", {}), mounted, lambda work: {}).summary == {}


def test_a_read_only_disk_is_a_resource_error(mounted: Path) -> None:
    first = bring(TOY, mounted, build_toy)
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    with pytest.raises(ResourceError, match="read-only"):
        bring(Stage("other", {}), mounted, build_toy)
    assert bring(TOY, mounted, build_toy) == first


def test_a_folder_one_may_not_write_is_a_resource_error(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(ResourceError, match="permission denied"):
        bring(TOY, tmp_path, build_toy)
    tmp_path.chmod(0o700)


def test_a_file_that_cannot_be_read_is_a_fault_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = bring(TOY, tmp_path, build_toy)
    real = stage.hash_file

    def unreadable(path: Path) -> str:
        if path.name == "b.bin":
            raise OSError(errno.EIO, "Input/output error", str(path))
        return real(path)

    monkeypatch.setattr(stage, "hash_file", unreadable)
    assert verify(done.path)[1] == ["b.bin: cannot be read (Input/output error)"]


def test_large_files_are_hashed_side_by_side_to_the_same_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = bring(TOY, tmp_path, build_toy)
    (done.path / "b.bin").write_bytes(bytes(256))
    (done.path / "inner" / "a.txt").unlink()
    expected = verify(done.path)
    monkeypatch.setattr(stage, "_WORTH_THREADS_BYTES", 0)
    assert verify(done.path) == expected and len(expected[1]) == 2


def test_an_error_of_reading_or_syncing_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    stage.write_text(path, "old")

    def failing(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    for act in (lambda: stage.fsync_file(path), lambda: stage.write_text(path, "new")):
        with pytest.raises(OSError, match=r"a\.txt"):
            act()
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_inodes_are_asked_for_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "inodes_left", lambda path: 3)
    with pytest.raises(ResourceError, match=r"a checkpoint needs 16 inodes in .*, 3 are left; delete files"):
        stage.require_space(tmp_path, 1, "a checkpoint")


def test_what_others_have_hashed_is_taken_at_their_word_if_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("written elsewhere", encoding="utf-8")
    (tmp_path / "own").write_text("own", encoding="utf-8")
    known = {"theirs": {"bytes": 17, "sha256": "said"}}
    stage.seal(tmp_path, {"stage": "toy"}, known)
    files = stage.read_manifest(tmp_path)["files"]
    assert files == {"own": stage.facts_of(tmp_path / "own"), **known}
    assert stage.verify(tmp_path)[1] == ["theirs: content differs from its recorded SHA-256"]
    for name in ("theirs", "gone"):
        (tmp_path / "theirs").write_text("other", encoding="utf-8")
        with pytest.raises(ResourceError, match=f"{name}: not there as it was written"):
            stage.seal(tmp_path, {"stage": "toy"}, {name: known["theirs"]})


def test_the_work_of_hashing_can_be_shared_out(tmp_path: Path) -> None:
    names = ("a", "b", "c")
    for name in names:
        (tmp_path / name).write_text(name, encoding="utf-8")
    stage.seal(tmp_path, {"stage": "toy"})
    for name in names:
        (tmp_path / name).write_text(name.upper(), encoding="utf-8")
    manifest = stage.read_manifest(tmp_path)
    shares = [stage.faults_of(tmp_path, manifest, (rank, 2)) for rank in range(2)]
    assert all(shares) and sorted(shares[0] + shares[1]) == stage.faults_of(tmp_path, manifest)


def test_no_flipped_bit_of_a_manifest_is_believed(tmp_path: Path) -> None:
    done = bring(TOY, tmp_path, build_toy)
    path = done.path / "manifest.json"
    content = path.read_bytes()
    for bit in random.Random(4).sample(range(8 * len(content)), 500):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises((DataError, ModelFileError)):
            stage.finished(TOY, tmp_path)
    path.write_bytes(content)
    assert stage.finished(TOY, tmp_path) is not None


def test_what_file_systems_leave_behind_is_no_part_of_a_stage(tmp_path: Path) -> None:
    def build(work: Path) -> dict[str, int]:
        (work / ".nfs0000").write_text("removed while it was open")
        return build_toy(work)

    done = bring(TOY, tmp_path, build)
    (done.path / ".nfs0000").unlink()
    (done.path / "inner" / ".DS_Store").write_text("x")
    assert verify(done.path)[1] == []


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM])
def test_what_this_process_may_not_open_is_no_fault_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    done = bring(TOY, tmp_path, build_toy)

    def refused(path: Path, *_: object, **__: object) -> str:
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(stage, "hash_file", refused)
        with pytest.raises(OSError, match=os.strerror(number)):
            verify(done.path)
    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(OSError, match=os.strerror(number)):
        stage.finished(TOY, tmp_path)
