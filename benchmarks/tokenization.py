"""Text to token shards, in MB/s per core: Groundup beside datatrove, the tokenizers library underneath, and tiktoken.

    python -m benchmarks.tokenization [--corpus FILES ...] [--vocab-size 32768] [--pattern llama3] [--rounds 3]
                                                                                        (make bench-tokenization)

    texts --> one tokenizer, trained by Groundup --> the same tokenizer.json for all
          --> documents as each tool stores them --> a process for every row and round, on one core

`shards` reads the tool's own documents and writes token files; `encode` has the texts in memory and ends with their ids
(arrays, lists, encodings: whatever the tool gives). MB/s is UTF-8 text over processor seconds of the process, beyond
those of its start; the ids of every row are compared. Peers: .venv-tokenization, made at the first use.
Writes benchmarks/results/tokenization.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import corpus, harness
from groundup.corpus.documents import DOCUMENTS, Document, LineWriter, shard_name, to_line
from groundup.tokens import TokenizerConfig, train_tokenizer

ROOT = harness.HERE.parent
PEERS = harness.HERE / ".venv-tokenization"
INSTALLS = (("datatrove[io,processing]>=0.10,<0.11", "tokenizers>=0.22,<0.24", "orjson", "tiktoken>=0.9,<1"),)
ROWS = {
    "groundup: shards": "groundup_shards",
    "groundup: encode": "groundup_encode",
    "groundup: encode by the library": "groundup_library",
    "datatrove: shards": "datatrove_shards",
    "tokenizers: encode_batch": "tokenizers_batch",
    "tokenizers: encode_batch_fast": "tokenizers_fast",
    "tiktoken: encode": "tiktoken_encode",
}


@dataclass(frozen=True)
class Data:
    """The folder that every row works on."""

    folder: Path
    text_bytes: int
    documents: int


def prepare(options: argparse.Namespace, folder: Path) -> Data:
    """One tokenizer, and the documents as jsonl, as Groundup's shards, and as a JSON list for the rows in memory."""
    texts = [text for file in corpus.corpus_files(options.corpus) for text in corpus.documents(file)]
    size = sum(len(text.encode()) for text in texts)
    config = TokenizerConfig(vocab_size=options.vocab_size, pattern=options.pattern)
    (folder / "tokenizer").mkdir()
    train_tokenizer(config, texts, folder / "tokenizer")
    times = max(1, -(-options.megabytes * 1_000_000 // size))
    texts, size = texts * times, size * times
    shutil.copy(folder / "tokenizer" / "tokenizer.json", folder / "tokenizer.json")
    (folder / DOCUMENTS).mkdir()
    (folder / "jsonl").mkdir()
    with (
        LineWriter(folder / DOCUMENTS / shard_name("train", "text", 0)) as shard,
        (folder / "jsonl" / "text.jsonl").open("w", encoding="utf-8") as lines,
    ):
        for number, text in enumerate(texts):
            shard.write(to_line(Document(f"text:{number}", text, "text")))
            lines.write(json.dumps({"text": text, "id": str(number)}, ensure_ascii=False) + "\n")
    (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    return Data(folder, size, len(texts))


def run_row(label: str, data: Data, options: argparse.Namespace) -> dict[str, Any]:
    """The runner's answer with MB/s; `{"failed": reason}` when there is none."""
    tool, name = label.partition(":")[0], ROWS[label]
    python = sys.executable if tool == "groundup" else harness.peers_python(PEERS, INSTALLS)
    module = "benchmarks.runners.tokenization" if tool == "groundup" else "benchmarks.runners.tokenization_peers"
    out = data.folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    one_core = {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **one_core, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [python, "-m", module, name, str(data.folder), options.pattern],
        env=environment, cwd=ROOT, capture_output=True, text=True, timeout=harness.LIMIT_SECONDS,
    )  # fmt: skip
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1][:300]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return {**found, "megabytes_per_second": data.text_bytes / 1e6 / found["processor_seconds"]}


def table(runs: dict[str, list[dict[str, Any]]]) -> str:
    """MB/s of each row with its spread, and how many times datatrove's and the library's best it is."""
    rows = []
    for label, found in runs.items():
        speeds = speeds_of(found)
        against = [
            harness.shown(harness.ratios(speeds, speeds_of(runs.get(peer, []))), ".1f")
            for peer in ("datatrove: shards", "tokenizers: encode_batch_fast")
        ]
        same = {run.get("ids") for runs_of in runs.values() for run in runs_of if "ids" in run}
        failed = next((run["failed"] for run in found if "failed" in run), "")
        rows.append(
            [label, failed or harness.shown(harness.spread(speeds), ".2f"), *against, "yes" if len(same) == 1 else "NO"]
        )
    return harness.table(["row", "MB/s per core", "x datatrove", "x encode_batch_fast", "same ids"], rows)


def speeds_of(runs: Sequence[dict[str, Any]]) -> list[float | None]:
    """MB/s of the runs, None for failed ones."""
    return [run.get("megabytes_per_second") for run in runs]


def main() -> None:
    """Prepare, measure in rounds, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = [str(ROOT / "data" / "atlas" / "text")]
    parser.add_argument("--corpus", nargs="+", default=default, help="files or folders of .txt, .jsonl, .gz")
    parser.add_argument("--megabytes", type=int, default=30, help="the corpus is repeated until it has so many")
    parser.add_argument("--vocab-size", type=int, default=32768)
    parser.add_argument("--pattern", default="llama3")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--name", default="tokenization")
    options = parser.parse_args()
    labels = [label for label in ROWS if options.only in label]
    runs: dict[str, list[dict[str, Any]]] = {label: [] for label in labels}
    with tempfile.TemporaryDirectory() as folder:
        data = prepare(options, Path(folder))
        for _ in range(options.rounds):
            for label in labels:
                runs[label].append(run_row(label, data, options))
                print(label, runs[label][-1].get("megabytes_per_second", runs[label][-1]), file=sys.stderr)
        setting = {"vocab_size": options.vocab_size, "pattern": options.pattern, "text_bytes": data.text_bytes}
    result = {"setting": {**setting, "documents": data.documents}, "machine": {"cores": os.cpu_count()}, "rows": runs}
    harness.save(options.name, result, table(runs))


if __name__ == "__main__":
    main()
