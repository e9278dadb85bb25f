"""The tokenizer in a GGUF file's metadata -> a tokenizer.json that `tokens.load_foreign` takes in.

    tokenizer.ggml.tokens, merges, token_type, pre --> byte-level BPE with the same ids, cut by the same expression
    tokenizer.chat_template, bos_token_id, ...     --> its chat template

Invariant: ids are those of the file. A kind of tokenizer, or a way of cutting words, that is not known is refused.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from groundup.export.weights import fault
from groundup.tokens import Tokenizer, load_foreign
from groundup.tokens.patterns import split_steps

_NAMED = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
"""Names that templates know special tokens by, and those of llama.cpp."""
_CONTROL, _LITERAL = 3, 4
"""Token types of llama.cpp: control tokens, and added tokens that are ordinary text."""
_CUTS: Mapping[str, tuple[str, bool]] = {
    "default": ("gpt2", False),
    "gpt-2": ("gpt2", False),
    "smollm": ("gpt2", True),
    "llama-bpe": ("llama3", False),
    "qwen2": ("qwen2", False),
}
"""llama.cpp's name of a way of cutting words -> our pattern, and whether each digit stands alone before that."""


def gguf_tokenizer(metadata: Mapping[str, Any], path: Path, chat_template: str = "auto") -> Tokenizer:
    """The tokenizer of a file, made ours. Raises ModelFileError when there is none, or none that is known.

    `chat_template`: `auto` for the one in the file, where it has one; `own` for ours.
    """
    kind, cut = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre", "default")
    tokens, merges = metadata.get("tokenizer.ggml.tokens", []), metadata.get("tokenizer.ggml.merges", [])
    remedy = "give the tokenizer by --tokenizer"
    if kind != "gpt2" or cut not in _CUTS:
        raise fault(path, f"its tokenizer ({str(kind)[:20]}, {str(cut)[:20]}) is not read from GGUF; {remedy}")
    if not _texts(tokens) or not _texts(merges) or len(set(tokens)) < len(tokens):
        raise fault(path, f"no vocabulary with merges in it, or a token twice; {remedy}")
    types = metadata.get("tokenizer.ggml.token_type", [])
    added = [
        {"id": index, "content": token, "special": kind == _CONTROL}
        for index, (token, kind) in enumerate(zip(tokens, types))
        if kind in (_CONTROL, _LITERAL)
    ]
    pattern, digits = _CUTS[cut]
    steps = [{"type": "Digits", "individual_digits": True}] if digits else []
    steps += [*split_steps(pattern), {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]
    model = {
        "type": "BPE",
        "vocab": {token: index for index, token in enumerate(tokens)},
        "merges": [merge.split(" ", 1) for merge in merges],
        "ignore_merges": cut == "llama-bpe",
    }
    described = _described(metadata, tokens)
    content = {"added_tokens": added, "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}, "model": model}
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "tokenizer.json"
        file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        beside = file.with_name("tokenizer_config.json")
        beside.write_text(json.dumps(described, ensure_ascii=False), encoding="utf-8")
        return load_foreign(file, chat_template=chat_template)[0]


def _described(metadata: Mapping[str, Any], tokens: list[str]) -> dict[str, str]:
    """What a tokenizer_config.json would say: the chat template, and the special tokens that it knows by name."""
    template = metadata.get("tokenizer.chat_template")
    described = {"chat_template": template} if isinstance(template, str) else {}
    for name, key in _NAMED.items():
        index = metadata.get(f"tokenizer.ggml.{key}_token_id")
        if isinstance(index, int) and 0 <= index < len(tokens):
            described[name] = tokens[index]
    return described


def _texts(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(value, str) for value in values)
