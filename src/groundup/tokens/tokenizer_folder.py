"""A tokenizer -> the files that a folder of it has: ours to read again, and what transformers reads beside it.

    tokenizer.json  tokenizer_config.json  chat_template.jinja (not of an encoder, which does not chat)

Invariant: tokenizer.json is written last, so a folder that has one has all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from groundup.stage import write_text
from groundup.tokens.template import CHAT_TEMPLATE
from groundup.tokens.tokenizer_file import (
    CLS,
    ENDOFTEXT,
    MASK,
    PAD,
    ROLE_TOKENS,
    SEP,
    TOKENIZER_FILE,
    TURN_END,
)
from groundup.tokens.wordpiece import UNKNOWN

_OF_DECODERS: Mapping[str, Any] = {
    "bos_token": ENDOFTEXT,
    "eos_token": TURN_END,
    "pad_token": ENDOFTEXT,
    "additional_special_tokens": list(ROLE_TOKENS.values()),
}
_OF_ENCODERS: Mapping[str, Any] = {"cls_token": CLS, "sep_token": SEP, "pad_token": PAD, "mask_token": MASK}


def write_tokenizer_files(
    folder: Path, text: str, control: Mapping[str, int], literal: Mapping[str, int] | None = None
) -> None:
    """Write tokenizer.json (`text`) and what transformers reads beside it; each file atomically."""
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    added = {index: (name, True) for name, index in control.items()}
    added |= {index: (name, False) for name, index in (literal or {}).items()}
    encoder = MASK in control
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **(_OF_ENCODERS if encoder else _OF_DECODERS),
        **({"unk_token": UNKNOWN} if UNKNOWN in control and encoder else {}),
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "added_tokens_decoder": {
            str(index): {"content": name, **flags, "special": special} for index, (name, special) in added.items()
        },
        **({} if encoder else {"chat_template": CHAT_TEMPLATE}),
    }
    if not encoder:
        write_text(folder / "chat_template.jinja", CHAT_TEMPLATE)
    write_text(folder / "tokenizer_config.json", json.dumps(settings, indent=1, ensure_ascii=False) + "\n")
    write_text(folder / TOKENIZER_FILE, text)
