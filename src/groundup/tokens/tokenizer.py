"""Text -> token ids and back, with a tokenizer from a folder (trained here, or taken in from elsewhere).

    text --split_pieces--> pieces of bounded length --word by word, or the library on all cores--> ids
    ids --token_bytes--> the same text

transformers reads the same file and gives the same ids.

Invariant: control tokens never come out of plain text. `encode` works on a copy of the tokenizer that does not know
them, so "<|end|>" in a document is ordinary bytes and comes back exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import tokenizers
from numpy.typing import NDArray

from groundup.errors import DataError, GroundupError, ModelFileError
from groundup.tokens.arrays import token_dtype
from groundup.tokens.jinja_template import JinjaTemplate
from groundup.tokens.patterns import split_pieces
from groundup.tokens.template import TOOL, ChatTemplate, OwnTemplate, Turn, prompt_ids
from groundup.tokens.template_files import read_template
from groundup.tokens.tokenizer_file import (
    BYTE_ALPHABET,
    CONTROL_TOKENS,
    ENCODER_TOKENS,
    END_OF_TEXT_NAMES,
    ENDOFTEXT,
    ROLE_TOKENS,
    SEP,
    TOKENIZER_FILE,
    TOOL_TURN,
    TURN_END,
    TokenizerFile,
    read_tokenizer_file,
)
from groundup.tokens.tokenizer_folder import write_tokenizer_files
from groundup.tokens.wordpiece import UNKNOWN
from groundup.tokens.words import WordEncoder

Tokens = NDArray[np.unsignedinteger[Any]]
WORD_BY_WORD_FROM_CHARACTERS = 1 << 20
"""A tokenizer that was given this much text looks words up from then on: making the tables takes some 50 ms."""

Result = TypeVar("Result")


def guarded(call: Callable[[], Result], kind: type[DataError] | type[ModelFileError], what: str) -> Result:
    """Run a call into the tokenizers library; its Rust panics (a BaseException) and errors become `kind`."""
    try:
        return call()
    except (GroundupError, OSError, MemoryError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0][:90]
        raise kind(f"{what} failed ({reason}); check that the text or file is whole") from error


class EncoderIds(NamedTuple):
    """Ids of the control tokens of encoders."""

    pad: int
    cls: int
    sep: int
    mask: int


class Tokenizer:
    """Text <-> token ids. `encode` never gives a control token (but [UNK]); those are added by id (see `template`)."""

    def __init__(self, file: TokenizerFile, where: str, template: JinjaTemplate | None = None) -> None:
        self.lossless = file.unit != "pieces"
        """Whether decoding gives the text back; WordPiece changes it, so its decoding is a rendering."""
        self.jinja = template if self.lossless else None
        """The chat template that the tokenizer came with; None: ours."""
        self.template: ChatTemplate = self.jinja or OwnTemplate()
        self.control = file.control
        missing = [text for text in CONTROL_TOKENS if text not in file.control]
        if missing and self.lossless and self.jinja is None:
            raise ModelFileError(
                f"{where}: no control token {missing[0]}; use a tokenizer that Groundup made, or take it in by "
                "tokenizer.path"
            )
        self._plain = guarded(
            lambda: tokenizers.Tokenizer.from_str(file.plain_json()), ModelFileError, f"{where}: loading"
        )
        self.file = file
        self._token_bytes = list(file.token_bytes)
        self.pattern = file.pattern
        self.vocab_size = len(self._token_bytes)
        self.control_ids = frozenset(file.control.values())
        encoder = [file.control[text] for text in ENCODER_TOKENS if text in file.control]
        self.encoder_ids = EncoderIds(*encoder) if len(encoder) == len(ENCODER_TOKENS) else None
        # A tokenizer of pieces is for encoders: it has no turns, and [SEP] is what ends a text.
        self.end_of_text_id = file.control[SEP] if missing and self.jinja is None else _end_of_text(file, where)
        names = {**ROLE_TOKENS, TOOL: TOOL_TURN} if not missing and self.jinja is None else {}
        self.role_ids: Mapping[str, int] = {role: file.control[t] for role, t in names.items() if t in file.control}
        self.unknown_id = None if self.lossless else file.control[UNKNOWN]
        """What stands for a word without pieces; the only control token that `encode` gives."""
        self.continuing_ids = file.continuing
        self.dtype = token_dtype(self.vocab_size)
        self._given_characters = 0
        self._words: WordEncoder | None = None

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Tokenizer of a folder with a tokenizer.json. Raises ModelFileError when it is missing or damaged."""
        return cls(read_tokenizer_file(folder), str(folder / TOKENIZER_FILE), read_template(folder))

    @cached_property
    def turn_end_id(self) -> int:
        """What ends a turn of the assistant. Raises ModelFileError when its own chat template is unusable."""
        if self.jinja is not None:
            return self.jinja.turn_end_id(self)
        return self.file.control[TURN_END if TURN_END in self.file.control else SEP]

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """What ends an answer: the end of a turn or of a text. Raises as `turn_end_id`."""
        named = self.jinja.variables.get("eos_token", "") if self.jinja is not None else ""
        return frozenset({self.end_of_text_id, self.turn_end_id, self.control.get(named, self.end_of_text_id)})

    @property
    def frames(self) -> bool:
        """Whether its file says what stands around texts and pairs, for others who read it; we put [CLS] and [SEP]."""
        return self.file.content.get("post_processor") is not None

    def save(self, folder: Path, max_tokens: int | None = None) -> None:
        """Write tokenizer.json as it was read, and what transformers reads beside it, into `folder`.

        `max_tokens`: what the encoder that it is for reads at once.
        """
        write_tokenizer_files(folder, self.file.text, self.file.control, self.file.literal, self.jinja, max_tokens)

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text. Raises DataError on lone surrogates, which are no text."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text; the same as `encode` one by one."""
        words = self._word_encoder(texts)
        if words is None:
            return self._by_library(texts)
        return [ids.tolist() for ids in self._by_words(words, texts)]

    def encode_arrays(self, texts: Sequence[str]) -> list[Tokens]:
        """As `encode_batch`, each as an array of `dtype` (read-only)."""
        words = self._word_encoder(texts)
        if words is None:
            return [np.array(ids, dtype=self.dtype) for ids in self._by_library(texts)]
        return self._by_words(words, texts)

    def encode_with_places(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids, and which characters of `text` each stands for: [from, to). Raises DataError as `encode`."""
        if not self.lossless:
            return self._pieces_with_places(text)
        ids = self.encode(text)
        characters = np.cumsum([0, *(len(character.encode()) for character in text)])
        ends = np.cumsum([len(self._token_bytes[token]) for token in ids]) if ids else np.zeros(0, np.int64)
        starts = np.concatenate([[0], ends[:-1]]) if ids else ends
        first = np.searchsorted(characters, starts, side="right") - 1
        behind = np.searchsorted(characters, ends, side="left")
        return ids, list(zip(first.tolist(), behind.tolist()))

    def _pieces_with_places(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        ids: list[int] = []
        places: list[tuple[int, int]] = []
        start = 0
        for piece in split_pieces(text, self.pattern):
            found = self._guarded(partial(self._plain.encode, piece, add_special_tokens=False), [text])
            ids += found.ids
            places += [(start + first, start + behind) for first, behind in found.offsets]
            start += len(piece)
        return ids, places

    def _word_encoder(self, texts: Sequence[str]) -> WordEncoder | None:
        """What encodes word by word, once it is worth it; None before, and for a pre-tokenizer without a name."""
        self._given_characters += sum(map(len, texts))
        enough = self._given_characters >= WORD_BY_WORD_FROM_CHARACTERS
        if self._words is None and enough and self.pattern and not self.file.literal:
            alphabet = "".join(BYTE_ALPHABET[byte] for byte in range(256)) if self.file.unit == "bytes" else ""
            self._words = WordEncoder(self.pattern, self._plain, alphabet, self.dtype)
        return self._words

    def _by_words(self, words: WordEncoder, texts: Sequence[str]) -> list[Tokens]:
        def encoded(text: str) -> Tokens:
            return np.frombuffer(b"".join(map(words.encode, split_pieces(text, self.pattern))), dtype=self.dtype)

        return self._guarded(lambda: [encoded(text) for text in texts], texts)

    def _by_library(self, texts: Sequence[str]) -> list[list[int]]:
        """On all cores, pieces of long texts side by side."""
        pieces: list[str] = []
        ends: list[int] = []
        for text in texts:
            pieces.extend(split_pieces(text, self.pattern))
            ends.append(len(pieces))
        encoded = self._guarded(lambda: self._plain.encode_batch_fast(pieces, add_special_tokens=False), texts)
        ids = [encoding.ids for encoding in encoded]
        starts = [0, *ends[:-1]]
        return [ids[a] if b - a == 1 else [i for piece in ids[a:b] for i in piece] for a, b in zip(starts, ends)]

    def _guarded(self, call: Callable[[], Result], texts: Sequence[str]) -> Result:
        """Run an encoding call; says where the lone surrogate is when that is why it failed."""
        try:
            return guarded(call, DataError, "encoding text")
        except DataError:
            _refuse_surrogates(texts)
            raise

    def decode_bytes(self, ids: Sequence[int], skip_control: bool = True) -> bytes:
        """The exact bytes that tokens stand for; control tokens are left out, or written as their names."""
        if len(ids) and min(ids) < 0:
            raise DataError(
                f"token id {min(ids)} is negative; padding and ignored targets must be removed before decoding"
            )
        try:
            skipped: frozenset[int] = self.control_ids if skip_control else frozenset()
            return b"".join([self._token_bytes[i] for i in ids if i not in skipped])
        except IndexError:
            bad = next(i for i in ids if i >= self.vocab_size)
            raise DataError(
                f"token id {bad} is outside the vocabulary of {self.vocab_size}; use the tokenizer of this data"
            ) from None

    def decode(self, ids: Sequence[int], skip_control: bool = True) -> str:
        """Text of token ids; bytes that are no UTF-8 (a character cut in the middle) become U+FFFD."""
        return self.decode_bytes(ids, skip_control).decode("utf-8", errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """UTF-8 bytes that one token stands for; a control token's are those of its name."""
        return self.decode_bytes([token], skip_control=False)

    def prompt(self, turns: Sequence[Turn]) -> list[int]:
        """Ids that ask a model for the assistant turn after `turns` (see `template.prompt_ids`)."""
        return prompt_ids(self, turns)

    def answer_text(self, ids: Sequence[int]) -> str:
        """What an answer's ids say, without what the template has a model say before it and white space around it."""
        return self.decode(ids).removeprefix(self.template.lead(self)).strip()

    @property
    def beginning_id(self) -> int:
        """What engines are told begins a text: the bos_token of the tokenizer's own template, else the end of text."""
        named = "" if self.jinja is None else self.jinja.variables.get("bos_token", "")
        return self.control.get(named, self.end_of_text_id)

    @property
    def document_start_id(self) -> int:
        """What stands before every document of a stream: [CLS] of an encoder's tokenizer, else <|endoftext|>."""
        return self.end_of_text_id if self.encoder_ids is None else self.encoder_ids.cls

    @property
    def document_end_ids(self) -> tuple[int, ...]:
        """What stands behind every document of a stream: [SEP] of an encoder's tokenizer, else nothing."""
        return () if self.encoder_ids is None else (self.encoder_ids.sep,)

    def need_encoder_ids(self) -> EncoderIds:
        """The control tokens of encoders. Raises ModelFileError when this tokenizer has none."""
        if self.encoder_ids is None:
            raise ModelFileError(
                f"the tokenizer has no {', '.join(ENCODER_TOKENS)}; use one made for a recipe of an encoder"
            )
        return self.encoder_ids

    def document_prompt(self, text: str) -> list[int]:
        """Ids that ask a model to go on with a document that begins with `text`: <|endoftext|>, then the text."""
        return [self.end_of_text_id, *self.encode(text)]


def _refuse_surrogates(texts: Sequence[str]) -> None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"the text has a lone surrogate at character {error.start}, so it is no Unicode text; remove it"
            ) from None


def _end_of_text(file: TokenizerFile, where: str) -> int:
    """The control token that ends a text, by the names that it may have. Raises ModelFileError."""
    found = next((file.control[name] for name in (ENDOFTEXT, *END_OF_TEXT_NAMES) if name in file.control), None)
    if found is None:
        raise ModelFileError(
            f"{where}: no control token ends a text, such as {ENDOFTEXT}; take it in by tokenizer.path"
        )
    return found
