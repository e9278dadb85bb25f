"""The chat template that lies beside a tokenizer -> JinjaTemplate, and back into files that transformers reads.

    chat_template.jinja, else chat_template of tokenizer_config.json (of several the one named `default`)
    bos_token, eos_token, unk_token, pad_token of tokenizer_config.json, which templates know by these names

Invariant: nothing is run here; our own template is none of these, as it is applied without running it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from groundup.config import digest
from groundup.errors import ModelFileError
from groundup.tokens.jinja_template import JinjaTemplate
from groundup.tokens.template import CHAT_TEMPLATE

TEMPLATE_FILE = "chat_template.jinja"
CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_LIMIT_BYTES = 1_000_000
CONFIG_LIMIT_BYTES = 64_000_000
NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")


def read_template(folder: Path, given: Path | None = None) -> JinjaTemplate | None:
    """The template in a folder, or in the file that is `given`; None for none, and for our own.

    Raises ModelFileError when a file of it is damaged or too large.
    """
    config = _config(folder / CONFIG_FILE)
    path = given or folder / TEMPLATE_FILE
    if given is not None or path.is_file():
        text: str | None = _text(path)
    else:
        path, text = folder / CONFIG_FILE, _of_config(config.get("chat_template"))
    if text is None or not text.strip() or text.strip() == CHAT_TEMPLATE.strip():
        return None
    if len(text) > TEMPLATE_LIMIT_BYTES:
        raise ModelFileError(f"{path}: a chat template of {len(text)} characters (limit {TEMPLATE_LIMIT_BYTES})")
    return JinjaTemplate(text, _named_tokens(config), str(folder))


def template_identity(template: JinjaTemplate) -> str:
    """Hash of all that a template's renderings depend on."""
    return digest({"text": template.text, "variables": dict(template.variables)})


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > 4 * TEMPLATE_LIMIT_BYTES:
            raise ModelFileError(f"{path}: {path.stat().st_size} bytes is too large for a chat template")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{path}: no UTF-8 at byte {error.start}; copy the tokenizer again") from None
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None


def _config(path: Path) -> dict[str, Any]:
    """tokenizer_config.json, empty where there is none."""
    try:
        if not path.is_file():
            return {}
        if path.stat().st_size > CONFIG_LIMIT_BYTES:
            raise ModelFileError(f"{path}: {path.stat().st_size} bytes is too large (limit {CONFIG_LIMIT_BYTES})")
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
    except (ValueError, RecursionError) as error:
        reason = (str(error).splitlines() or ["nested too deeply"])[0][:60]
        raise ModelFileError(f"{path}: not valid JSON ({reason}); copy the tokenizer again") from None
    return values if isinstance(values, dict) else {}


def _of_config(value: Any) -> str | None:
    """The template of tokenizer_config.json: a text, or the default one of a list of named texts."""
    if isinstance(value, list):
        named = {each.get("name"): each.get("template") for each in value if isinstance(each, dict)}
        value = named.get("default")
    return value if isinstance(value, str) else None


def _named_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in NAMED_TOKENS:
        value = config.get(name)
        value = value.get("content") if isinstance(value, dict) else value
        if isinstance(value, str):
            found[name] = value
    return found
