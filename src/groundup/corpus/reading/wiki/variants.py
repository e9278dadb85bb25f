"""Language conversion (MediaWiki's LanguageConverter): `-{zh-hans:...;zh-hant:...}-` -> the text of one variant."""

from __future__ import annotations

_FALLBACKS = {
    "zh-hans": ("zh-cn", "zh-sg", "zh-my", "zh"),
    "zh-cn": ("zh-hans", "zh-sg", "zh-my", "zh"),
    "zh-sg": ("zh-hans", "zh-cn", "zh-my", "zh"),
    "zh-my": ("zh-hans", "zh-sg", "zh-cn", "zh"),
    "zh-hant": ("zh-tw", "zh-hk", "zh-mo", "zh"),
    "zh-tw": ("zh-hant", "zh-hk", "zh-mo", "zh"),
    "zh-hk": ("zh-hant", "zh-mo", "zh-tw", "zh"),
    "zh-mo": ("zh-hant", "zh-hk", "zh-tw", "zh"),
}
_HIDDEN_FLAGS = frozenset("HTDN-")


def choose_variant(content: str, variant: str) -> str:
    """What `-{content}-` shows in `variant` ("": the first given); rules that only define something show nothing."""
    flags, bar, rest = content.partition("|")
    if bar and all(len(flag.strip()) <= 1 for flag in flags.split(";")):
        if any(flag.strip().upper() in _HIDDEN_FLAGS for flag in flags.split(";") if flag.strip()):
            return ""
        content = rest
    elif bar and all(_is_code(code) for code in flags.split(";")):
        content = rest
    choices = _choices(content)
    if not choices:
        return content
    for code in (variant, *_FALLBACKS.get(variant, ())):
        if code in choices:
            return choices[code]
    return next(iter(choices.values()))


def _choices(content: str) -> dict[str, str]:
    """variant -> text, the first of two for one variant; empty when the content is a plain text."""
    choices: dict[str, list[str]] = {}
    last: list[str] = []
    for part in content.split(";"):
        head, colon, text = part.partition(":")
        code = head.rpartition("=>")[2].strip().lower()  # `name=>zh-hans:text` converts one way
        if colon and _is_code(code):
            last = [text.strip()]
            choices.setdefault(code, last)
        elif choices and part.strip():  # a semicolon inside a text, as in an entity
            last.append(part)
        elif part.strip():
            return {}
    return {code: ";".join(texts) for code, texts in choices.items()}


def _is_code(code: str) -> bool:
    name, _, region = code.strip().lower().partition("-")
    return (
        2 <= len(name) <= 3 and name.isascii() and name.isalpha() and region.replace("-", "").isalnum() | (region == "")
    )
