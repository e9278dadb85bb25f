"""Texts of the train split -> tokenizer.json, tokenizer_config.json and chat_template.jinja in a folder.

Ids: 256 bytes and the merges (or the pieces, with the bytes among them), then <|endoftext|>, the roles, <|end|>, then
reserved ones up to the size asked for.

Invariant: the same texts in the same order give the same bytes of each file, and the vocabulary has exactly the size
asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, Literal, Self

import tokenizers
from pydantic import Field, field_validator, model_validator
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, processors, trainers

from groundup.config import Config
from groundup.errors import DataError
from groundup.log import logger, progress
from groundup.tokens.patterns import PATTERNS, split_pieces
from groundup.tokens.tokenizer import Tokenizer, guarded
from groundup.tokens.tokenizer_file import CLS, CONTROL_TOKENS, SEP, VOCAB_LIMIT
from groundup.tokens.tokenizer_folder import write_tokenizer_files
from groundup.tokens.unigram import train_pieces

_BYTES = 256
AUTO, OWN_TEMPLATE = "auto", "own"


class TokenizerConfig(Config):
    """How text becomes tokens: a tokenizer trained on the train split, or one taken in from a file."""

    path: str | None = None
    """Take one in instead of training it: a tokenizer.json, .tiktoken or SentencePiece .model file, or its folder."""
    model: Literal["bpe", "unigram"] = "bpe"
    """Byte-pair merges, or a unigram language model over strings of bytes (needs the extra `unigram`)."""
    vocab_size: int = 4096
    """Number of tokens, exactly: 256 bytes, merges, 5 control tokens; filled up with reserved ones on little text."""
    pattern: Literal["llama3", "gpt2", "qwen2", "o200k", "deepseek3"] = "llama3"
    """What cuts text into words: as Llama 3, GPT-2, Qwen2, GPT-4o, or DeepSeek-V3 (Chinese and Japanese apart)."""
    min_frequency: int = Field(default=2, ge=1)
    """BPE: a pair of tokens seen less often than this in the training text is not merged."""
    max_token_bytes: int = Field(default=32, ge=2, le=256)
    """No token is longer than this, so that rules of dashes or dots do not fill the vocabulary."""
    mixture: dict[str, float] = Field(default_factory=dict)
    """Share of each corpus source in the text that is trained on; empty: in proportion to its size."""
    sample_bytes: int = Field(default=500_000_000, ge=0)
    """About so much text is trained on at most, evenly over all documents (0: all of it)."""
    compare: tuple[str, ...] = ()
    """Other tokenizers, as `path`: the report says how many tokens they need for the same text."""
    chat_template: str = AUTO
    """How conversations become text. `auto`: as the template says that lies beside `path` (chat_template.jinja or
    tokenizer_config.json), else ours; `own`: ours; or a file `*.jinja` for the tokenizer of `path`."""

    @field_validator("vocab_size")
    @classmethod
    def _possible(cls, vocab_size: int) -> int:
        least = _BYTES + len(CONTROL_TOKENS)
        if not least <= vocab_size <= VOCAB_LIMIT:
            raise ValueError(
                f"must be {least} ({_BYTES} bytes and {len(CONTROL_TOKENS)} control tokens) to {VOCAB_LIMIT:,}"
            )
        return vocab_size

    @model_validator(mode="after")
    def _template_of_a_tokenizer(self) -> Self:
        if self.chat_template in (AUTO, OWN_TEMPLATE):
            return self
        if not self.chat_template.endswith(".jinja") or "\0" in self.chat_template or "://" in self.chat_template:
            raise ValueError("chat_template must be auto, own, or a local file that ends in .jinja")
        if self.path is None:
            raise ValueError("chat_template: a file goes with `path`; a tokenizer trained here has our template")
        return self

    @field_validator("path", "compare")
    @classmethod
    def _local(cls, paths: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        for path in (paths,) if isinstance(paths, str) else paths or ():
            if not path or "\0" in path:
                raise ValueError("must name a file or a folder")
            if "://" in path:
                raise ValueError("must be local: URLs are not fetched; download the file first")
        return paths


def train_tokenizer(
    config: TokenizerConfig, texts: Iterable[str], work: Path, control: Sequence[str] = CONTROL_TOKENS
) -> dict[str, Any]:
    """Train on `texts` (the train split only: the caller's choice) and save three files in `work`, each atomically.

    `control`: the control tokens, in order. The same texts in the same order give the same bytes. Returns {vocab_size,
    merges or pieces, reserved, documents, text_bytes}. Raises DataError when there is no text, RecipeError when a
    library is missing.
    """
    counts = {"documents": 0, "text_bytes": 0}
    with progress("tokenizer", None, "documents") as bar:

        def pieces() -> Iterator[str]:
            for text in texts:
                counts["documents"] += 1
                counts["text_bytes"] += len(text.encode())
                yield from split_pieces(text, config.pattern)
                bar.advance()

        train = partial(
            _train_bpe if config.model == "bpe" else _train_unigram, config, config.vocab_size - len(control)
        )
        trained = guarded(lambda: _beside(train, pieces()), DataError, "training the tokenizer")
    if counts["text_bytes"] == 0:
        raise DataError("no text to train the tokenizer on: the train split is empty; add text or loosen corpus.clean")
    base_size = trained.get_vocab_size()
    reserved = config.vocab_size - len(control) - base_size
    if reserved:
        logger.warning(
            f"tokenizer: the text supports {base_size + len(control)} of {config.vocab_size} tokens, the other "
            f"{reserved} are reserved and unused; a smaller tokenizer.vocab_size saves their memory"
        )
    names = [*control, *(f"<|reserved_{i}|>" for i in range(reserved))]
    trained.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in names])
    ids = {text: base_size + i for i, text in enumerate(names)}
    if CLS in ids:
        trained.post_processor = processors.TemplateProcessing(
            single=f"{CLS} $A {SEP}",
            pair=f"{CLS} $A {SEP} $B:1 {SEP}:1",
            special_tokens=[(CLS, ids[CLS]), (SEP, ids[SEP])],
        )
    write_tokenizer_files(work, trained.to_str(pretty=True), ids)
    Tokenizer.load(work)
    learnt = {"merges" if config.model == "bpe" else "pieces": base_size - _BYTES}
    return {"vocab_size": config.vocab_size, **learnt, "reserved": reserved, **counts}


def _beside(train: Callable[[Iterator[str]], tokenizers.Tokenizer], pieces: Iterator[str]) -> tokenizers.Tokenizer:
    """`train(pieces)` in a thread of its own, so that a signal is answered in this one, and reading ends there.

    Called from here the library would hold the thread that gets signals until it is done, minutes with much text.
    """
    left = Event()

    def until_left() -> Iterator[str]:
        for piece in pieces:
            if left.is_set():
                raise InterruptedError("nobody waits for this tokenizer any more")
            yield piece

    with ThreadPoolExecutor(1) as threads:
        training = threads.submit(train, until_left())
        try:
            return training.result()
        finally:
            left.set()


def _train_bpe(config: TokenizerConfig, vocab_size: int, pieces: Iterator[str]) -> tokenizers.Tokenizer:
    trained = _over_bytes(models.BPE(), config.pattern)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=config.min_frequency,
        max_token_length=config.max_token_bytes,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator(pieces, trainer)
    return trained


def _train_unigram(config: TokenizerConfig, vocab_size: int, pieces: Iterator[str]) -> tokenizers.Tokenizer:
    vocab = train_pieces(pieces, config.pattern, vocab_size, config.max_token_bytes)
    return _over_bytes(models.Unigram(vocab, None, False), config.pattern)


def _over_bytes(model: models.Model, pattern: str) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(model)
    splits = [pre_tokenizers.Split(Regex(expression), "isolated") for expression in PATTERNS[pattern].expressions]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
