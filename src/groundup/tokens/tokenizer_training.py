"""Texts of the train split -> tokenizer.json, tokenizer_config.json and chat_template.jinja in a folder.

Ids: 256 bytes and the merges, then <|endoftext|>, the roles, <|end|>, then reserved ones up to the size asked
for.

Invariant: the same texts in the same order give the same bytes of each file, and the vocabulary has exactly the size
asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import tokenizers
from pydantic import Field
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers

from groundup.config import Config
from groundup.errors import DataError
from groundup.log import logger, progress
from groundup.tokens.patterns import PATTERNS, split_pieces
from groundup.tokens.tokenizer import Tokenizer, guarded
from groundup.tokens.tokenizer_file import (
    CONTROL_TOKENS,
    VOCAB_LIMIT,
    write_tokenizer_files,
)

_BYTES = 256


class TokenizerConfig(Config):
    """How the tokenizer is trained."""

    vocab_size: int = Field(default=4096, ge=_BYTES + len(CONTROL_TOKENS), le=VOCAB_LIMIT)
    """Number of tokens, exactly: 256 bytes, merges, 5 control tokens; filled up with reserved ones on little text."""
    pattern: Literal["llama3", "gpt2", "qwen2", "o200k", "deepseek3"] = "llama3"
    """Pre-tokenizer expression: that of Llama 3 (numbers in groups of three) or of GPT-2."""
    min_frequency: int = Field(default=2, ge=1)
    """A pair of tokens seen less often than this in the training text is not merged."""
    max_token_bytes: int = Field(default=32, ge=2, le=256)
    """No token is longer than this, so that rules of dashes or dots do not fill the vocabulary."""


def train_tokenizer(config: TokenizerConfig, texts: Iterable[str], work: Path) -> dict[str, Any]:
    """Train on `texts` (the train split only: the caller's choice) and save three files in `work`, each atomically.

    The same texts in the same order give the same bytes. Returns {vocab_size, merges, reserved, documents, text_bytes}.
    Raises DataError when there is no text.
    """
    counts = {"documents": 0, "text_bytes": 0}
    trained = _untrained(config.pattern)
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size - len(CONTROL_TOKENS),
        min_frequency=config.min_frequency,
        max_token_length=config.max_token_bytes,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    with progress("tokenizer", None, "documents") as bar:

        def pieces() -> Iterator[str]:
            for text in texts:
                counts["documents"] += 1
                counts["text_bytes"] += len(text.encode())
                yield from split_pieces(text, config.pattern)
                bar.advance()

        guarded(lambda: trained.train_from_iterator(pieces(), trainer), DataError, "training the tokenizer")
    if counts["text_bytes"] == 0:
        raise DataError("no text to train the tokenizer on: the train split is empty; add text or loosen corpus.clean")
    base_size = trained.get_vocab_size()
    reserved = config.vocab_size - len(CONTROL_TOKENS) - base_size
    if reserved:
        logger.warning(
            f"tokenizer: the text supports {base_size + len(CONTROL_TOKENS)} of {config.vocab_size} tokens, the other "
            f"{reserved} are reserved and unused; a smaller tokenizer.vocab_size saves their memory"
        )
    control = [*CONTROL_TOKENS, *(f"<|reserved_{i}|>" for i in range(reserved))]
    trained.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in control])
    ids = {text: base_size + i for i, text in enumerate(control)}
    write_tokenizer_files(work, trained.to_str(pretty=True), ids)
    Tokenizer.load(work)
    return {"vocab_size": config.vocab_size, "merges": base_size - _BYTES, "reserved": reserved, **counts}


def _untrained(pattern: str) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    splits = [pre_tokenizers.Split(Regex(expression), "isolated") for expression in PATTERNS[pattern].expressions]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
