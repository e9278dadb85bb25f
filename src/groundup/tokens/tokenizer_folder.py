"""A tokenizer -> the files that a folder of it has: ours to read again, and what transformers reads beside it.

    tokenizer.json  tokenizer_config.json  chat_template.jinja

Invariant: tokenizer.json is written last, so a folder that has one has all three.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from groundup.stage import write_text
from groundup.tokens.template import CHAT_TEMPLATE
from groundup.tokens.tokenizer_file import ENDOFTEXT, ROLE_TOKENS, TOKENIZER_FILE, TURN_END


def write_tokenizer_files(
    folder: Path, text: str, control: Mapping[str, int], literal: Mapping[str, int] | None = None
) -> None:
    """Write tokenizer.json (`text`) and what transformers reads beside it; each file atomically."""
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    added = {index: (name, True) for name, index in control.items()}
    added |= {index: (name, False) for name, index in (literal or {}).items()}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": ENDOFTEXT,
        "eos_token": TURN_END,
        "pad_token": ENDOFTEXT,
        "additional_special_tokens": list(ROLE_TOKENS.values()),
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "added_tokens_decoder": {
            str(index): {"content": name, **flags, "special": special} for index, (name, special) in added.items()
        },
        "chat_template": CHAT_TEMPLATE,
    }
    write_text(folder / "chat_template.jinja", CHAT_TEMPLATE)
    write_text(folder / "tokenizer_config.json", json.dumps(settings, indent=1, ensure_ascii=False) + "\n")
    write_text(folder / TOKENIZER_FILE, text)
