"""A tokenizer from elsewhere, file or folder -> a tokenizer folder of ours.

    tokenizer.json          foreign_huggingface    BPE and Unigram of the tokenizers library
    vocab.json, merges.txt  foreign_huggingface    the older pair of GPT-2 and Qwen
    *.tiktoken              foreign_tiktoken       ranks; the recipe's pattern
    *.model                 foreign_sentencepiece  (or ranks, as Llama 3 has them)
    vocab.txt, or WordPiece in a tokenizer.json     wordpiece, taken as it is: for encoders

With the chat template that lies beside it a tokenizer keeps the names of its control tokens, which the template writes;
without one it gets ours.

Invariant: no code that lies beside these files is read, and what comes out is judged as every tokenizer.json is before
it is used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from groundup.config import digest, to_dict
from groundup.errors import ModelFileError
from groundup.log import logger
from groundup.stage import hash_file
from groundup.tokens.draft import Draft, finish
from groundup.tokens.foreign_huggingface import read_tokenizer_json, read_vocab_and_merges
from groundup.tokens.foreign_sentencepiece import read_sentencepiece
from groundup.tokens.foreign_tiktoken import is_tiktoken, read_tiktoken
from groundup.tokens.jinja_template import JinjaTemplate
from groundup.tokens.template_files import read_template, template_identity
from groundup.tokens.tokenizer import Tokenizer
from groundup.tokens.tokenizer_file import (
    CONTROL_TOKENS,
    END_OF_TEXT_NAMES,
    ENDOFTEXT,
    MASK,
    TOKENIZER_FILE,
    judge,
    read_json,
)
from groundup.tokens.tokenizer_training import AUTO, OWN_TEMPLATE, TokenizerConfig
from groundup.tokens.unigram import require_sentencepiece
from groundup.tokens.wordpiece import VOCAB_FILE, read_vocab

Format = Literal["tokenizer.json", "vocab.json and merges.txt", "tiktoken", "sentencepiece", "vocab.txt"]
_IN_FOLDER = (TOKENIZER_FILE, "*.tiktoken", "tokenizer.model", "spiece.model", "*.model", "vocab.json", VOCAB_FILE)
"""What is looked for in a folder, the first that is there."""


def require_tokenizer(config: TokenizerConfig) -> None:
    """Raise, before any work is done, when a file or a library that `config` asks for is not there.

    A chat template that cannot be used is found here too.
    """
    for path in (config.path, *config.compare):
        if path is not None:
            find_foreign(Path(path))
    if config.path is not None and template_beside(Path(config.path), config.chat_template) is not None:
        load_foreign(Path(config.path), config.pattern, chat_template=config.chat_template)
    if config.path is None and config.model == "unigram":
        require_sentencepiece()


def tokenizer_identity(config: TokenizerConfig) -> dict[str, Any]:
    """What decides the tokenizer: how it is trained, or the content of the files that it is taken from."""
    if config.path is not None:
        identity = {"taken_in": foreign_identity(Path(config.path), config.pattern)}
        template = template_beside(Path(config.path), config.chat_template)
        return identity if template is None else {**identity, "chat_template": template_identity(template)}
    identity = to_dict(config)
    del identity["path"], identity["compare"]
    if config.chat_template == AUTO:  # as before there was a choice
        del identity["chat_template"]
    return identity


def template_beside(path: Path, wanted: str) -> JinjaTemplate | None:
    """The chat template for a tokenizer taken in from `path`, as the recipe wants it; None: ours.

    `wanted`: `auto` for the one that lies beside it, `own`, or a file. Raises ModelFileError.
    """
    if wanted == OWN_TEMPLATE:
        return None
    file, _ = find_foreign(path)
    return read_template(file.parent, None if wanted == AUTO else Path(wanted))


def find_foreign(path: Path) -> tuple[Path, Format]:
    """The file that holds the tokenizer, and its format. Raises ModelFileError when there is none."""
    try:
        file = _file_of(path)
        if file is None or not file.is_file():
            raise ModelFileError(
                f"{path}: no tokenizer here; give a tokenizer.json, a .tiktoken or SentencePiece .model file"
            )
        return file, _format_of(file)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None


def foreign_identity(path: Path, pattern: str) -> str:
    """Hash of all that a tokenizer taken in from `path` depends on."""
    file, kind = find_foreign(path)
    beside = [file.with_name(name) for name in ("merges.txt", "tokenizer_config.json")]
    files = [file, *beside] if kind in ("vocab.json and merges.txt", VOCAB_FILE) else [file]
    hashes = [hash_file(each) for each in files if each.is_file()]
    return digest({"files": hashes, "pattern": pattern if kind == "tiktoken" else ""})


def load_foreign(
    path: Path,
    pattern: str = "llama3",
    control: Sequence[str] = CONTROL_TOKENS,
    chat_template: str = OWN_TEMPLATE,
) -> tuple[Tokenizer, dict[str, Any]]:
    """The tokenizer of a file or folder, made ours, and what was done: {format, control, left_out}.

    `pattern`: what cuts text into words, for formats that do not say it; `control`: the control tokens it is to have.
    `chat_template`: as `TokenizerConfig` has it. Raises ModelFileError, also when the template cannot be used.
    """
    file, kind = find_foreign(path)
    if found := _pieces(file, kind):
        return found, {"format": f"WordPiece, {kind}", "control": {}, "left_out": []}
    template = None if MASK in control else template_beside(path, chat_template)
    text, names, left_out = _converted(file, kind, pattern, control, keep_names=template is not None)
    tokenizer = Tokenizer(judge(text, json.loads(text), file), str(file), template)
    done: dict[str, Any] = {"format": kind, "control": names, "left_out": left_out}
    if template is not None:
        done["turn_end"] = tokenizer.token_bytes(tokenizer.turn_end_id).decode()
    return tokenizer, done


def take_in(
    path: Path, pattern: str, work: Path, control: Sequence[str] = CONTROL_TOKENS, chat_template: str = AUTO
) -> dict[str, Any]:
    """Take a tokenizer in and save it in `work`, as training would. Returns {vocab_size, format, control, left_out}."""
    tokenizer, done = load_foreign(path, pattern, control, chat_template)
    require_control(tokenizer, control, path)
    tokenizer.save(work)
    for name, before in done["control"].items():
        if before != name:
            logger.info(f"tokenizer: {name} is {before or 'a new token'}")
    if tokenizer.jinja is not None:
        logger.info(f"tokenizer: with its own chat template, in which {done['turn_end']} ends an answer")
    if done["left_out"]:
        logger.info(f"tokenizer: left out, so that text comes back as it was: {', '.join(done['left_out'])}")
    return {"vocab_size": tokenizer.vocab_size, **done}


def require_control(tokenizer: Tokenizer, control: Sequence[str], path: Path) -> None:
    """Raise ModelFileError when a tokenizer taken in as it is lacks one of these control tokens and writes text."""
    if not tokenizer.lossless and MASK not in control:
        raise ModelFileError(
            f"{path}: WordPiece changes text, so a decoder or LSTM could not write it; take BPE or Unigram, or "
            "model.kind: encoder"
        )


def _pieces(file: Path, kind: Format) -> Tokenizer | None:
    """A WordPiece tokenizer, as it is: its ids are what a model was trained with. Raises ModelFileError."""
    if kind == VOCAB_FILE:
        text, content = read_vocab(file)
    elif kind == "tokenizer.json":
        text, content = read_json(file)
        model = content.get("model")
        if not isinstance(model, dict) or model.get("type") != "WordPiece":
            return None
    else:
        return None
    return Tokenizer(judge(text, content, file), str(file))


def _file_of(path: Path) -> Path | None:
    if not path.is_dir():
        return path
    found = (file for name in _IN_FOLDER for file in sorted(path.glob(name)))
    return next(found, None)


def _format_of(file: Path) -> Format:
    if file.name == "vocab.json":
        return "vocab.json and merges.txt"
    if file.suffix == ".json":
        return "tokenizer.json"
    if file.name == VOCAB_FILE:
        return VOCAB_FILE
    return "tiktoken" if is_tiktoken(file) else "sentencepiece"


def _converted(
    file: Path, kind: Format, pattern: str, control: Sequence[str], keep_names: bool
) -> tuple[str, Mapping[str, str], list[str]]:
    draft = _read(file, kind, pattern)
    if keep_names:  # all but an end of text, which every tokenizer has to have
        known = any(name in draft.control for name in (ENDOFTEXT, *END_OF_TEXT_NAMES))
        control = () if known else (ENDOFTEXT,)
    text, names = finish(draft, control)
    return text, names, sorted(set(draft.left_out))


def _read(file: Path, kind: Format, pattern: str) -> Draft:
    try:
        if kind == "tokenizer.json":
            return read_tokenizer_json(file)
        if kind == "vocab.json and merges.txt":
            return read_vocab_and_merges(file.parent)
        return read_tiktoken(file, pattern) if kind == "tiktoken" else read_sentencepiece(file)
    except OSError as error:
        raise ModelFileError(f"{file}: cannot be read ({error.strerror}); check the path and its permissions") from None
