"""Groundup's rows of the tokenization benchmark: NAME FOLDER PATTERN are the arguments; prints as the peers' runner."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.runners.tokenization_peers import answer, batches, texts_of, timed

from groundup.corpus import read_documents
from groundup.tokens import Tokenizer, write_shards
from groundup.tokens import tokenizer as tokenizer_module
from groundup.tokens.shards import TokenShards


def groundup_shards(folder: Path, pattern: str) -> None:
    """The stage `shards`: documents from the disk to token files, loading the tokenizer included."""

    def run() -> Tokenizer:
        tokenizer = Tokenizer.load(folder / "tokenizer")
        write_shards(read_documents(folder, "train", "text"), tokenizer, folder / "out")
        return tokenizer

    tokenizer, seconds = timed(run)
    shards = TokenShards(folder / "out")
    stream = shards.window(0, shards.num_tokens)
    answer(seconds, [stream[stream != tokenizer.end_of_text_id]])


def groundup_encode(folder: Path, pattern: str) -> None:
    """Texts in memory to arrays of ids."""
    tokenizer, texts = Tokenizer.load(folder / "tokenizer"), texts_of(folder)
    ids, seconds = timed(lambda: [array for batch in batches(texts) for array in tokenizer.encode_arrays(batch)])
    answer(seconds, ids)


def groundup_library(folder: Path, pattern: str) -> None:
    """The same where a pre-tokenizer has no name and the library cuts the words."""
    tokenizer_module.WORD_BY_WORD_FROM_CHARACTERS = 1 << 60
    groundup_encode(folder, pattern)


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])
