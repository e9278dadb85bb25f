"""Text files -> one tokenizer, flat token files and byte counts that every tool in the quality comparison shares.

    .txt .jsonl (.gz) --> documents --by hash--> train    --tokenizer trained on it--> train.bin
                                             --> held-out ---------------------------> heldout.bin   + facts.json

Each document starts with <|endoftext|>. Invariant: the same files and options give the same folder, named by a hash of
them, so that results and sweeps can say which data they are of.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from groundup.tokens import Tokenizer
from groundup.tokens.tokenizer_training import TokenizerConfig, train_tokenizer

SUFFIXES = (".txt", ".jsonl", ".txt.gz", ".jsonl.gz")
DOCUMENT_CHARACTERS = 6000
LEAST_BYTES = 10_000_000
BATCH = 256


def corpus_files(words: Sequence[str]) -> list[Path]:
    """Files named or found in the named folders, sorted. Raises SystemExit when there are none."""
    found: list[Path] = []
    for path in map(Path, words):
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        found.extend(file for file in inside if file.name.endswith(SUFFIXES))
    if not found or not all(file.is_file() for file in found):
        raise SystemExit(f"--corpus: no {', '.join(SUFFIXES)} in {' '.join(words)}")
    return found


def documents(path: Path) -> Iterator[str]:
    """Documents of a file: a line of JSON each, or paragraphs of a text together until they have about 6,000
    characters.
    """
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    text = raw.decode("utf-8", errors="replace")
    if ".jsonl" in path.name:
        for line in filter(str.strip, text.splitlines()):
            record = json.loads(line)
            found = record["text"] if isinstance(record, dict) and "text" in record else "\n".join(strings(record))
            if found.strip():
                yield found
        return
    yield from pieces(text.replace("\r\n", "\n").split("\n\n"))


def strings(value: Any, name: str = "") -> Iterator[str]:
    """Every text inside a JSON value, as `name: text` lines."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from strings(inner, name if key == "text" else key)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner, name)
    elif isinstance(value, str) and value.strip():
        yield f"{name}: {value}" if name else value


def pieces(paragraphs: Iterable[str]) -> Iterator[str]:
    """Paragraphs joined until they are long enough for a document."""
    held: list[str] = []
    for paragraph in filter(str.strip, paragraphs):
        held.append(paragraph)
        if sum(map(len, held)) >= DOCUMENT_CHARACTERS:
            yield "\n\n".join(held)
            held = []
    if held:
        yield "\n\n".join(held)


def is_heldout(text: str, fraction: float) -> bool:
    """By a hash of the document alone, so that equal documents are on one side."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") < fraction * 2**32


def prepare(words: Sequence[str], vocab_size: int, heldout: float, folder: Path) -> Path:
    """The data folder of a corpus, made inside `folder` unless it is there."""
    texts = [text for path in corpus_files(words) for text in documents(path)]
    digest = hashlib.sha256(json.dumps([vocab_size, heldout, DOCUMENT_CHARACTERS]).encode())
    for text in texts:
        digest.update(hashlib.sha256(text.encode()).digest())
    target = folder / f"corpus-{digest.hexdigest()[:12]}"
    if (target / "facts.json").exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    sides = {"train": [], "heldout": []}
    for text in texts:
        sides["heldout" if is_heldout(text, heldout) else "train"].append(text)
    train_tokenizer(TokenizerConfig(vocab_size=vocab_size), sides["train"], target)
    write(sides, Tokenizer.load(target), target)
    return target


def write(sides: dict[str, list[str]], tokenizer: Tokenizer, target: Path) -> None:
    """Token files, bytes of each token, and (last) the facts."""
    dtype = "<u2" if tokenizer.vocab_size <= 2**16 else "<u4"
    facts: dict[str, Any] = {
        "fingerprint": target.name.removeprefix("corpus-"),
        "dtype": dtype,
        "vocab_size": tokenizer.vocab_size,
        "end_of_text_id": tokenizer.end_of_text_id,
    }
    for name, texts in sides.items():
        ids: list[int] = []
        for start in range(0, len(texts), BATCH):
            for document in tokenizer.encode_batch(texts[start : start + BATCH]):
                ids += [tokenizer.end_of_text_id, *document]
        np.array(ids, dtype=dtype).tofile(target / f"{name}.bin")
        n_bytes = sum(len(text.encode()) for text in texts)
        facts[name] = {"documents": len(texts), "tokens": len(ids), "bytes": n_bytes}
    total = facts["train"]["bytes"] + facts["heldout"]["bytes"]
    if total < LEAST_BYTES:
        print(f"warning: {total:,} bytes of text; a comparison wants {LEAST_BYTES:,}", file=sys.stderr)
    control = tokenizer.control_ids
    lengths = [0 if i in control else len(tokenizer.token_bytes(i)) for i in range(tokenizer.vocab_size)]
    np.save(target / "token_bytes.npy", np.array(lengths))
    (target / "facts.json").write_text(json.dumps(facts, indent=1))
