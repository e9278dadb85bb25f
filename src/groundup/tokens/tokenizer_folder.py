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
from groundup.tokens.jinja_template import JinjaTemplate
from groundup.tokens.template import CHAT_TEMPLATE
from groundup.tokens.template_files import TEMPLATE_FILE
from groundup.tokens.tokenizer_file import (
    CLS,
    ENDOFTEXT,
    MASK,
    PAD,
    ROLE_TOKENS,
    SEP,
    TOKENIZER_FILE,
    TOOL_TURN,
    TURN_END,
)
from groundup.tokens.wordpiece import UNKNOWN

_OF_DECODERS: Mapping[str, Any] = {
    "bos_token": ENDOFTEXT,
    "eos_token": TURN_END,
    "pad_token": ENDOFTEXT,
}
_OF_ENCODERS: Mapping[str, Any] = {"cls_token": CLS, "sep_token": SEP, "pad_token": PAD, "mask_token": MASK}


def write_tokenizer_files(
    folder: Path,
    text: str,
    control: Mapping[str, int],
    literal: Mapping[str, int] | None = None,
    template: JinjaTemplate | None = None,
    max_tokens: int | None = None,
) -> None:
    """Write tokenizer.json (`text`) and what transformers reads beside it; each file atomically.

    `template`: the chat template, and the names of special tokens that it came with; our own when None. `max_tokens`:
    what an encoder reads at once, where that is known.
    """
    takes_space = MASK if MASK in control and UNKNOWN not in control else None
    flags = {"normalized": False, "rstrip": False, "single_word": False}
    added = {index: (name, True) for name, index in control.items()}
    added |= {index: (name, False) for name, index in (literal or {}).items()}
    encoder = MASK in control
    chat_template = CHAT_TEMPLATE if template is None else template.text
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **_special(control, encoder, template),
        **({"unk_token": UNKNOWN} if UNKNOWN in control and encoder else {}),
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "added_tokens_decoder": {
            str(index): {"content": name, "lstrip": name == takes_space, **flags, "special": special}
            for index, (name, special) in added.items()
        },
        **(_read_by_encoders(max_tokens) if encoder else {"chat_template": chat_template}),
    }
    if not encoder:
        write_text(folder / TEMPLATE_FILE, chat_template)
    write_text(folder / "tokenizer_config.json", json.dumps(settings, indent=1, ensure_ascii=False) + "\n")
    write_text(folder / TOKENIZER_FILE, text if takes_space is None else _with_space(text, takes_space))


def _with_space(text: str, name: str) -> str:
    """A tokenizer.json whose control token `name` takes the white space before it, as words bring theirs with them.

    So transformers' fill-mask reads "a [MASK] rose" as we do, and as the rows of training have it: the space is hidden
    with the word. Words of WordPiece bring none.
    """
    content = json.loads(text)
    entries = [entry for entry in content["added_tokens"] if entry["content"] == name and not entry.get("lstrip")]
    for entry in entries:
        entry["lstrip"] = True
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n" if entries else text


def _read_by_encoders(max_tokens: int | None) -> dict[str, Any]:
    """What else transformers is to be told: without, it says nothing of which text of a pair a token is of."""
    longest = {} if max_tokens is None else {"model_max_length": max_tokens}
    return {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"], **longest}


def _special(control: Mapping[str, int], encoder: bool, template: JinjaTemplate | None) -> dict[str, Any]:
    """Which tokens transformers is to take for the beginning, the end and padding."""
    if template is not None:
        return dict(template.variables)
    if encoder:
        return dict(_OF_ENCODERS)
    tools = [TOOL_TURN] if TOOL_TURN in control else []
    return {**_OF_DECODERS, "additional_special_tokens": [*ROLE_TOKENS.values(), *tools]}
