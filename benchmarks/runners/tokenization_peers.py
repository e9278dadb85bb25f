"""Rows of the tokenization benchmark that other tools run: NAME FOLDER PATTERN are the arguments; imports no Groundup.

Prints {"processor_seconds", "wall_seconds", "tokens", "ids"}: ids is a hash over the ids of all documents in order,
without the token that ends or begins one.
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

END_OF_TEXT = "<|endoftext|>"
BATCH = 1000


def processor_seconds() -> float:
    """User and system time of this process and its children so far."""
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


def timed(call: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """The call's result, and the seconds it took."""
    before, started = processor_seconds(), time.perf_counter()
    found = call()
    wall = time.perf_counter() - started
    return found, {"processor_seconds": processor_seconds() - before, "wall_seconds": wall}


def answer(seconds: dict[str, float], ids: Iterable[Any]) -> None:
    """Print what was measured; `ids` are parts of the stream of ids."""
    digest, tokens = hashlib.sha256(), 0
    for part in ids:
        array = np.asarray(part, dtype="<u4")
        digest.update(array.tobytes())
        tokens += len(array)
    print(json.dumps({**seconds, "tokens": tokens, "ids": digest.hexdigest()[:16]}))


def batches(texts: list[str]) -> Iterable[list[str]]:
    """The texts, a thousand at a time."""
    return (texts[i : i + BATCH] for i in range(0, len(texts), BATCH))


def texts_of(folder: Path) -> list[str]:
    """The texts in memory."""
    found: list[str] = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    return found


def datatrove_shards(folder: Path, pattern: str) -> None:
    """datatrove's reader and tokenizer as its users call them, without the shuffling."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer

    pipeline = [
        JsonlReader(str(folder / "jsonl")),
        DocumentTokenizer(
            str(folder / "out"), str(folder / "tokenizer.json"), eos_token=END_OF_TEXT,
            shuffle_documents=False, batch_size=BATCH,
        ),
    ]  # fmt: skip
    executor = LocalPipelineExecutor(pipeline, tasks=1, workers=1, logging_dir=str(folder / "out" / "logs"))
    _, seconds = timed(executor.run)
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    dtype = "<u2" if tokenizer.get_vocab_size() <= 1 << 16 else "<u4"
    file = next((folder / "out").glob("*unshuffled.ds"))
    stream = np.fromfile(file, dtype=dtype)
    answer(seconds, [stream[stream != tokenizer.token_to_id(END_OF_TEXT)]])


def tokenizers_batch(folder: Path, pattern: str, fast: bool = False) -> None:
    """The library alone: texts in memory to lists of ids."""
    from tokenizers import Tokenizer

    tokenizer, texts = Tokenizer.from_file(str(folder / "tokenizer.json")), texts_of(folder)
    encode = tokenizer.encode_batch_fast if fast else tokenizer.encode_batch

    def run() -> list[list[int]]:
        return [e.ids for batch in batches(texts) for e in encode(batch, add_special_tokens=False)]

    ids, seconds = timed(run)
    answer(seconds, ids)


def tokenizers_fast(folder: Path, pattern: str) -> None:
    """As `tokenizers_batch`, without offsets."""
    tokenizers_batch(folder, pattern, fast=True)


def tiktoken_encode(folder: Path, pattern: str) -> None:
    """tiktoken with the same merges; ids of a trained byte-level BPE are its ranks."""
    import tiktoken

    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    splits = [step["pattern"]["Regex"] for step in content["pre_tokenizer"]["pretokenizers"] if step["type"] == "Split"]
    if len(splits) != 1:
        raise SystemExit("tiktoken has one expression only")
    byte_of = byte_alphabet()
    control = {entry["content"] for entry in content["added_tokens"]}
    vocab = {text: index for text, index in content["model"]["vocab"].items() if text not in control}
    ranks = {bytes(byte_of[character] for character in text): index for text, index in vocab.items()}
    encoding = tiktoken.Encoding("same", pat_str=splits[0], mergeable_ranks=ranks, special_tokens={})
    texts = texts_of(folder)
    ids, seconds = timed(lambda: [encoding.encode_ordinary(text) for text in texts])
    answer(seconds, ids)


def byte_alphabet() -> dict[str, int]:
    """GPT-2's character of each byte, backwards."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])
