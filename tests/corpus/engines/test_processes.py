"""Workers change nothing but the time, and a lost one is an error with a remedy."""

import os
import signal
import subprocess
import sys
import time

import pytest

from groundup.corpus.engines.processes import LocalEngine
from groundup.errors import DataError, ResourceError


def double(number):
    return 2 * number


def fail(number):
    if number == 2:
        raise DataError("number 2 is bad; use another")
    return number


def die(number):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_results_keep_the_order_of_the_tasks(workers):
    done = []
    engine = LocalEngine(workers)
    assert engine.run_all(double, [3, 1, 2], done.append) == [6, 2, 4]
    assert sorted(done) == [1, 2, 3]
    assert engine.run_all(double, []) == []


def test_errors_reach_the_caller():
    with pytest.raises(DataError, match="number 2"):
        LocalEngine(2).run_all(fail, [1, 2, 3])
    with pytest.raises(ResourceError, match=r"runtime\.workers below 2"):
        LocalEngine(2).run_all(die, [1, 2, 3])


def test_workers_end_with_their_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, time\n"
        "from groundup.corpus.engines.processes import LocalEngine\n"
        "def wait(_):\n"
        "    os.write(1, f'{os.getpid()}\\n'.encode())\n"  # whole, where two write at once
        "    time.sleep(60)\n"
        "if __name__ == '__main__':\n"
        "    LocalEngine(2).run_all(wait, [1, 2])\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{worker}/cmdline") and _alive(worker) for worker in workers):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)


def _alive(process):
    try:
        with open(f"/proc/{process}/stat") as handle:
            return handle.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
