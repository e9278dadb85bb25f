from __future__ import annotations

import subprocess
import sys


def test_memory_is_kept_where_the_c_library_can_and_nothing_breaks() -> None:
    # In a process of its own: the setting cannot be taken back.
    code = (
        "from groundup.parallel.host import keep_freed_memory as keep\n"
        "kept = keep()\n"
        "blocks = [bytearray(50_000_000) for _ in range(3)]\n"
        "del blocks\n"
        "import resource\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "block = bytearray(50_000_000)\n"
        "print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kept, faults = done.stdout.split()
    assert kept == "False" or int(faults) < 1000  # 50 MB anew would be 12,000 pages
