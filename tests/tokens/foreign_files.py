"""Small tokenizers as other tools write them, made here: the files that a user takes in."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers

from groundup.tokens.tokenizer_file import BYTE_ALPHABET
from tests.tokens.conftest import TEXTS

KIMI = r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _train(tokenizer: tokenizers.Tokenizer, trainer: Any) -> tokenizers.Tokenizer:
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def qwen(path: Path, expression: str = QWEN2) -> Path:
    """Byte-level BPE behind NFC, with ChatML's control tokens and a literal one."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(expression), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    _train(tokenizer, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False))
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken("<tool_call>", special=False, normalized=False)])
    tokenizer.save(str(path))
    return path


def gpt2(path: Path) -> Path:
    """Byte-level BPE whose expression is ByteLevel's own, with numbers cut into digits before it."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    digits, byte_level = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<fim_prefix>"]
    trainer = trainers.BpeTrainer(
        vocab_size=380, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    _train(tokenizer, trainer).save(str(path))
    return path


def llama2(path: Path, byte_fallback: bool = True) -> Path:
    """BPE over characters with `▁` for the space by a normalizer, control and byte tokens first, as Llama 2 has it."""
    control = ["<unk>", "<s>", "</s>"]
    special = [*control, *(f"<0x{byte:02X}>" for byte in range(256) if byte_fallback)]
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=byte_fallback, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=special, show_progress=False)
    _train(tokenizer, trainer)
    content = json.loads(tokenizer.to_str())
    content["pre_tokenizer"] = None
    content["added_tokens"] = [entry for entry in content["added_tokens"] if entry["content"] in control]
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def t5(path: Path, **changes: Any) -> Path:
    """A unigram model over characters behind Metaspace, without byte tokens, as T5 and XLM-R have it."""
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False)
    _train(tokenizer, trainer)
    content = {**json.loads(tokenizer.to_str()), **changes}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def tiktoken_file(path: Path, ranks: Mapping[bytes, int]) -> Path:
    lines = (f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items())
    path.write_text("".join(lines), encoding="utf-8")
    return path


def ranks_of(tokenizer_json: Path) -> dict[bytes, int]:
    """Ranks of a trained byte-level BPE, whose ids are in the order of its merges."""
    byte_of = {character: byte for byte, character in BYTE_ALPHABET.items()}
    content = json.loads(tokenizer_json.read_text(encoding="utf-8"))
    return {bytes(byte_of[c] for c in text): index for text, index in content["model"]["vocab"].items()}


def varint(number: int) -> bytes:
    """A number as protocol buffers write it."""
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append(number & 0x7F)
    return bytes([group | 0x80 for group in groups[:-1]] + groups[-1:])


def field(number: int, value: int | bytes) -> bytes:
    """A field of a protocol buffer."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value
