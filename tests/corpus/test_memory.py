"""What a process holds does not grow with the corpus: measured in a child, for `corpus` and for `shards`."""

import json
import os
import subprocess
import sys

import pytest
from benchmarks.prepare_memory import write_files

CHILD = """
import json, sys
from pathlib import Path
from groundup import config
from groundup.corpus import CorpusConfig, build_corpus, read_documents, segments, shard_paths
from groundup.corpus.duplicates import runs
from groundup.corpus.engines.processes import HERE
from groundup.tokens import Tokenizer, TokenizerConfig, encoding, train_tokenizer, write_file_shards, write_shards
segments.SEGMENT_BITS, runs.RUN_RECORDS, encoding.BATCH_CHARACTERS = 8, 1 << 12, 1 << 16

def memory(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))

def peak_of(function, *arguments):
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    function(*arguments)
    return memory("VmHWM") - before

folder = Path(sys.argv[1])
corpora = [folder / name for name in sys.argv[2:]]

def prepare(raw):
    work = folder / f"corpus-{raw.name}"
    work.mkdir()
    build_corpus(config.build(CorpusConfig, {"sources": [{"name": "s", "path": str(raw)}]}, "test"), folder, work)

def stream(raw):
    write_shards(read_documents(folder / f"corpus-{raw.name}", "train"), tokenizer, folder / f"a-{raw.name}", 1 << 16)

def files(raw):
    paths = shard_paths(folder / f"corpus-{raw.name}", "train")
    write_file_shards(paths, tokenizer, folder / f"b-{raw.name}", folder / "scratch", HERE, 1 << 16)

told = {"corpus": [peak_of(prepare, raw) for raw in corpora]}
(folder / "tokenizer").mkdir()
texts = [document.text for document in read_documents(folder / f"corpus-{corpora[0].name}", "train")]
train_tokenizer(TokenizerConfig(vocab_size=1000), texts, folder / "tokenizer")
tokenizer = Tokenizer.load(folder / "tokenizer")
told["stream"] = [peak_of(stream, raw) for raw in corpora]
told["files"] = [peak_of(files, raw) for raw in corpora]
print(json.dumps(told))
"""
WARM_UP, SMALL, LARGE = 1_000_000, 2_000_000, 8_000_000


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="peaks are measured by Linux's /proc")
def test_peaks_of_a_child_do_not_grow_with_the_corpus(tmp_path):
    (tmp_path / "child.py").write_text(CHILD)
    raw = [write_files(tmp_path / "raw", "mixed", size, 1, seed=1)[0] for size in (WARM_UP, SMALL, LARGE)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(tmp_path / "child.py"), str(tmp_path), *(f"raw/{path.name}" for path in raw)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    for name, (smallest, small, large) in told.items():
        known = max(smallest, small)  # what was freed before is used again, so single peaks vary by megabytes
        assert large < known + (LARGE - SMALL) / 2, f"{name}: {told}"
