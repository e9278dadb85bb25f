"""Text -> token ids and back, with a tokenizer from a folder (made by `tokenizer_training`).

    text --split_pieces--> pieces of bounded length --byte-level BPE on all cores--> ids --token_bytes--> the same text

The pre-tokenizer is the exact Llama-3 or GPT-2 expression, so transformers and llama.cpp read the same file and give
the same ids.

Invariant: control tokens never come out of plain text. `encode` works on a copy of the tokenizer that does not know
them, so "<|end|>" in a document is ordinary bytes and comes back exactly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import tokenizers

from groundup.errors import DataError, ModelFileError
from groundup.tokens.template import Turn, prompt_ids
from groundup.tokens.tokenizer_file import (
    CONTROL_TOKENS,
    ENDOFTEXT,
    ROLE_TOKENS,
    TOKENIZER_FILE,
    TURN_END,
    TokenizerFile,
    read_tokenizer_file,
    write_tokenizer_files,
)

PIECE_CHARACTERS = 16_384
LONGEST_PIECE_CHARACTERS = 65_536
_SAFE_CUT = {
    "llama3": re.compile(r"(?<=\S)(?= )|(?<=\n)(?=\S)"),
    "gpt2": re.compile(r"(?<=\S)(?=[ \n])"),
}
"""Places where the pre-tokenizer splits whatever lies around, so that cutting there does not change the tokens."""

Result = TypeVar("Result")


def split_pieces(text: str, pattern: str) -> Iterator[str]:
    """Cut a long text into pieces of bounded length; `"".join` of them is the text.

    Cuts lie where the pre-tokenizer splits anyway, so the tokens stay the same; only a run of
    `LONGEST_PIECE_CHARACTERS` without such a place is cut in the middle. This bounds the work of the expression and of
    merging, and feeds all cores.
    """
    start = 0
    while len(text) - start > LONGEST_PIECE_CHARACTERS:
        found = _SAFE_CUT[pattern].search(text, start + PIECE_CHARACTERS, start + LONGEST_PIECE_CHARACTERS)
        stop = found.start() if found else start + LONGEST_PIECE_CHARACTERS
        yield text[start:stop]
        start = stop
    if start < len(text):
        yield text[start:]


def guarded(call: Callable[[], Result], kind: type[DataError] | type[ModelFileError], what: str) -> Result:
    """Run a call into the tokenizers library; its Rust panics (a BaseException) and errors become `kind`."""
    try:
        return call()
    except (DataError, ModelFileError, OSError, MemoryError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0][:90]
        raise kind(f"{what} failed ({reason}); check that the text or file is whole") from error


class Tokenizer:
    """Text <-> token ids. `encode` never gives a control token; those are added by id (see `template`)."""

    def __init__(self, file: TokenizerFile, where: str) -> None:
        missing = [text for text in CONTROL_TOKENS if text not in file.control]
        if missing:
            raise ModelFileError(f"{where}: no control token {missing[0]}; use a tokenizer that Groundup made")
        self._plain = guarded(
            lambda: tokenizers.Tokenizer.from_str(file.plain_json()), ModelFileError, f"{where}: loading"
        )
        self._file = file
        self._token_bytes = list(file.token_bytes)
        self.pattern = file.pattern
        self.vocab_size = len(self._token_bytes)
        self.end_of_text_id = file.control[ENDOFTEXT]
        self.role_ids: Mapping[str, int] = {role: file.control[text] for role, text in ROLE_TOKENS.items()}
        self.turn_end_id = file.control[TURN_END]
        self.control_ids = frozenset(file.control.values())
        self.stop_ids = frozenset({self.end_of_text_id, self.turn_end_id})

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Tokenizer of a folder with a tokenizer.json. Raises ModelFileError when it is missing or damaged."""
        return cls(read_tokenizer_file(folder), str(folder / TOKENIZER_FILE))

    def save(self, folder: Path) -> None:
        """Write tokenizer.json as it was read, and what transformers reads beside it, into `folder`."""
        write_tokenizer_files(folder, self._file.text, self._file.control)

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text. Raises DataError on lone surrogates, which are no text."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, on all cores; the same as `encode` one by one."""
        pieces: list[str] = []
        ends: list[int] = []
        for text in texts:
            pieces.extend(split_pieces(text, self.pattern))
            ends.append(len(pieces))
        try:
            encoded = guarded(
                lambda: self._plain.encode_batch_fast(pieces, add_special_tokens=False), DataError, "encoding text"
            )
        except DataError:
            _refuse_surrogates(texts)
            raise
        ids = [encoding.ids for encoding in encoded]
        starts = [0, *ends[:-1]]
        return [ids[a] if b - a == 1 else [i for piece in ids[a:b] for i in piece] for a, b in zip(starts, ends)]

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
