"""Documents -> a stream of token ids in files of fixed size, and windows of that stream back.

    <|endoftext|> document <|endoftext|> document ...    the stream; token t lies in shard t // shard_tokens
    [CLS] document [SEP] [CLS] document [SEP] ...        the same with the tokenizer of an encoder
    tokens-00000.bin tokens-00001.bin ...                raw little-endian uint16 (uint32 above 65536 tokens)
    documents.bin                                        raw int64 [documents, 2]: first token, bytes of text
    index.json                                           sizes and counts; written last

While writing, each finished shard has a `tokens-NNNNN.json` with what it holds, so a killed attempt goes on behind the
last whole shard. Invariant: interrupted or not, the same documents give the same bytes of every file, and no file that
`TokenShards` opens differs in size from what the index says.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from groundup.corpus.closing import finish, finished
from groundup.errors import OF_THE_PROCESS, DataError
from groundup.log import Progress, progress
from groundup.stage import fsync_file, write_json
from groundup.tokens.arrays import StoredArrays, token_dtype, write_array
from groundup.tokens.encoding import encode_in_order
from groundup.tokens.tokenizer import Tokenizer, Tokens

INDEX_FILE = "index.json"
DOCUMENTS_FILE = "documents.bin"
SHARD_TOKENS = 1 << 23
_COUNTS = ("documents", "tokens", "text_bytes", "shards")


class HasText(Protocol):
    """What is written of a document."""

    @property
    def text(self) -> str:
        """The document's text."""


def write_shards(
    documents: Iterable[HasText],
    tokenizer: Tokenizer,
    folder: Path,
    shard_tokens: int = SHARD_TOKENS,
) -> dict[str, Any]:
    """Write the token stream of `documents` into `folder`, going on from finished shards of a killed attempt.

    Returns {documents, tokens, text_bytes, shards}. `documents` must come in the same order at every attempt. Without
    any document nothing is written. Raises DataError when a document cannot be encoded.
    """
    if not (folder / INDEX_FILE).is_file():
        with progress(f"shards {folder.name}", None, "tokens") as bar:
            writer = _ShardWriter(folder, tokenizer, shard_tokens, bar)
            writer.write(iter(documents))
        if writer.tokens == 0:
            return {"documents": 0, "tokens": 0, "text_bytes": 0, "shards": 0}
        writer.close()
    remove_marks(folder)
    return counts_of(folder)


class _ShardWriter:
    """Fills one shard in memory at a time. `tokens` is the stream's length so far, `documents` those begun in it."""

    def __init__(self, folder: Path, tokenizer: Tokenizer, shard_tokens: int, bar: Progress) -> None:
        self.folder, self.tokenizer, self.shard_tokens, self.bar = folder, tokenizer, shard_tokens, bar
        self.dtype = token_dtype(tokenizer.vocab_size)
        self.shards = self.tokens = self.documents = self.text_bytes = 0
        self._skip_tokens = 0
        self._buffer = np.empty(shard_tokens, dtype=self.dtype)
        self._filled = 0
        self._begun: list[tuple[int, int]] = []
        self._last_start = 0
        self._resume()

    def _resume(self) -> None:
        """Take over finished, intact shards: a mark says how many documents began before its shard's end."""
        while content := finished(self.folder, _mark(self.shards)):
            if content["shard_tokens"] != self.shard_tokens or content["tokens"] != self.shard_tokens:
                break
            self.shards += 1
            self.documents += len(content["documents"])
            self.text_bytes += sum(n_bytes for _, n_bytes in content["documents"])
            self.tokens += self.shard_tokens
            if content["documents"]:
                self._last_start = int(content["documents"][-1][0])
        if self.shards:
            self._skip_tokens = self.tokens - self._last_start
            self.bar.start_at(self.tokens)

    def write(self, documents: Iterator[HasText]) -> None:
        """Encode and append all documents; those in finished shards are only counted past."""
        skipped = sum(1 for _ in islice(documents, max(self.documents - 1, 0)))
        if self.documents and skipped < self.documents - 1:
            raise DataError(
                f"{self.folder}: only {skipped} documents came, but the shards written before hold {self.documents}; "
                "remove the folder and run the same command again"
            )
        texts = (document.text for document in documents)
        for n_bytes, ids in encode_in_order(texts, self.tokenizer):
            self._add(n_bytes, ids)
            self.bar.done = self.tokens
            self.bar.advance(0)

    def _add(self, n_bytes: int, ids: Tokens) -> None:
        stream = framed(ids, self.tokenizer)
        if self._skip_tokens:
            # The last document of the finished shards: its first tokens and its entry are there already.
            stream = stream[self._skip_tokens :]
            self._skip_tokens = 0
        else:
            self._begun.append((self.tokens, n_bytes))
            self.documents += 1
            self.text_bytes += n_bytes
        while len(stream):
            part = stream[: self.shard_tokens - self._filled]
            self._buffer[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            self.tokens += len(part)
            stream = stream[len(part) :]
            if self._filled == self.shard_tokens:
                self._flush()

    def _flush(self) -> None:
        """Write the shard, then its mark: a shard counts as finished only with its mark."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = shard_file(self.folder, self.shards)
        write_array(file, self._buffer[: self._filled])
        content = {"shard_tokens": self.shard_tokens, "tokens": self._filled, "documents": self._begun}
        finish(self.folder, _mark(self.shards), content, [file.name])
        self.shards += 1
        self._filled, self._begun = 0, []

    def close(self) -> None:
        """Write what is left, gather the document index, then the index file."""
        if self._filled:
            self._flush()
        temporary = self.folder / f"{DOCUMENTS_FILE}.tmp"
        with temporary.open("wb") as handle:
            for number in range(self.shards):
                begun = json.loads((self.folder / _mark(number)).read_text())["documents"]
                np.array(begun, dtype="<i8").reshape(-1, 2).tofile(handle)
        fsync_file(temporary)
        os.replace(temporary, self.folder / DOCUMENTS_FILE)
        write_index(self.folder, {key: getattr(self, key) for key in _COUNTS}, self.shard_tokens, self.tokenizer)


def framed(ids: Tokens, tokenizer: Tokenizer) -> Tokens:
    """A document's ids as they stand in the stream: behind what begins a document, before what ends it."""
    ends = tokenizer.document_end_ids
    stream = np.empty(1 + len(ids) + len(ends), dtype=token_dtype(tokenizer.vocab_size))
    stream[0] = tokenizer.document_start_id
    stream[1 : 1 + len(ids)] = ids
    stream[1 + len(ids) :] = ends
    return stream


def write_index(folder: Path, counts: Mapping[str, int], shard_tokens: int, tokenizer: Tokenizer) -> None:
    """Write index.json, which makes the folder whole. `counts`: documents, tokens, text_bytes, shards."""
    layout = {
        "shard_tokens": shard_tokens,
        "dtype": token_dtype(tokenizer.vocab_size),
        "vocab_size": tokenizer.vocab_size,
        "end_of_text_id": tokenizer.document_start_id,
    }
    write_json(folder / INDEX_FILE, {**counts, **layout})


def counts_of(folder: Path) -> dict[str, Any]:
    """{documents, tokens, text_bytes, shards} of a folder with an index."""
    index = read_index(folder)
    return {key: index[key] for key in _COUNTS}


def _mark(number: int) -> str:
    return f"tokens-{number:05d}.json"


def shard_file(folder: Path, number: int) -> Path:
    """Where the ids of a shard lie."""
    return folder / f"tokens-{number:05d}.bin"


def remove_marks(folder: Path) -> None:
    """Remove what tells of finished shards, once all are."""
    for mark in [*folder.glob("tokens-*.json"), *folder.glob("packed-*.json")]:
        mark.unlink()


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a folder of shards or rows; raises DataError when it is missing or no index."""
    path = folder / INDEX_FILE
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{folder}: no {INDEX_FILE}, so no finished token data; run `groundup prepare`") from None
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in OF_THE_PROCESS:
            raise
        reason = str(error)[:60]
        raise DataError(
            f"{path}: unreadable ({reason}); remove the stage's folder and run the same command again"
        ) from None
    if not isinstance(index, dict):
        raise DataError(f"{path}: no index of token data; remove the stage's folder and run the same command again")
    return index


class TokenShards:
    """The stream of one folder. Opening reads the index and the files' sizes; the attributes count the whole stream."""

    def __init__(self, folder: Path, vocab_size: int | None = None) -> None:
        index = read_index(folder)
        self.folder = folder
        try:
            self.num_tokens, self.num_documents = int(index["tokens"]), int(index["documents"])
            self.text_bytes, self.shard_tokens = int(index["text_bytes"]), int(index["shard_tokens"])
            self.vocab_size, self.end_of_text_id = int(index["vocab_size"]), int(index["end_of_text_id"])
            self.dtype = {"<u2": "<u2", "<u4": "<u4"}[index["dtype"]]
            if self.shard_tokens < 1 or self.num_tokens < 1:
                raise ValueError("no tokens")
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{folder / INDEX_FILE}: no usable index ({error}); remove the folder and run again"
            ) from None
        if vocab_size is not None and vocab_size != self.vocab_size:
            raise DataError(
                f"{folder}: made with a vocabulary of {self.vocab_size}, the model has {vocab_size}; "
                "use the tokenizer of these shards"
            )
        sizes = [
            min(self.shard_tokens, self.num_tokens - start) for start in range(0, self.num_tokens, self.shard_tokens)
        ]
        self._shards = StoredArrays([self.shard_path(i) for i in range(len(sizes))], sizes, self.dtype)
        self._documents = StoredArrays([folder / DOCUMENTS_FILE], [2 * self.num_documents], "<i8")

    def documents(self) -> NDArray[np.int64]:
        """Read the document index, Int64 [documents, 2]: first token in the stream, bytes of text."""
        return self._documents.read(0, 0, 2 * self.num_documents).reshape(-1, 2)

    def shard_path(self, shard: int) -> Path:
        """File of a shard."""
        return shard_file(self.folder, shard)

    def window(self, start: int, stop: int) -> NDArray[np.int64]:
        """Tokens `start` to `stop` (exclusive) of the stream, across shards.

        Raises DataError naming shard and offset when an id does not belong to the vocabulary.
        """
        parts = []
        while start < stop:
            shard, offset = divmod(start, self.shard_tokens)
            part = self._shards.read(shard, offset, min(stop - start, self.shard_tokens - offset))
            if part.max() >= self.vocab_size:
                self._refuse(shard, offset, part)
            parts.append(part.astype(np.int64))
            start += len(part)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _refuse(self, shard: int, offset: int, part: Tokens) -> None:
        at = int(np.argmax(part >= self.vocab_size))
        raise DataError(
            f"{self.shard_path(shard)}: token id {part[at]} at offset {offset + at} is outside the vocabulary of "
            f"{self.vocab_size}; the shard is damaged, remove the stage's folder and run again"
        )
