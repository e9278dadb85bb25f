"""The inside of a link `[[...]]` -> the text that it shows."""

from __future__ import annotations

from groundup.corpus.reading.wiki.marks import CAPTION_END, CAPTION_START, GAP
from groundup.corpus.reading.wiki.names import LANGUAGES, PICTURE_OPTIONS, THUMBNAILS

_LONG_CAPTION = 40
"""Characters from which the last part of a picture's link is a caption, although no known word asks for a frame."""


def shown(content: str, files: frozenset[str], categories: frozenset[str], with_captions: bool) -> str:
    """Text of `[[content]]`, where `files` and `categories` are the names of these namespaces in lower case.

    Categories and links to other languages show nothing; pictures their caption, if they have one and it is asked for.
    """
    target, bar, rest = content.partition("|")
    target = target.strip()
    if target.startswith(":"):
        return rest if rest else target.lstrip(":")
    prefix, colon, name = target.partition(":")
    if colon:
        prefix = prefix.strip().replace("_", " ").lower()
        if prefix in files:
            return _caption(rest) if with_captions else GAP
        if prefix in categories or (prefix in LANGUAGES and name):
            return GAP
    if not bar:
        return target
    return rest or _without_qualifier(name if colon else target)


def _caption(options: str) -> str:
    """The last part of a picture's link that is no option, if the picture has a frame around it."""
    parts = [part.strip() for part in options.split("|")]
    caption = next((part for part in reversed(parts) if not _is_option(part)), "")
    is_framed = not THUMBNAILS.isdisjoint(part.lower().partition("=")[0] for part in parts)
    if not caption or not (is_framed or len(caption) > _LONG_CAPTION):
        return GAP
    words = caption.replace(CAPTION_START, " ").replace(CAPTION_END, " ").split()  # a picture within the caption
    return f"{CAPTION_START}{' '.join(words)}{CAPTION_END}"


def _is_option(part: str) -> bool:
    """Whether a part of a picture's link is size, place or attribute; a lone word in small letters is taken for one."""
    if not part or part.lower() in PICTURE_OPTIONS:
        return True
    name, equals, _ = part.partition("=")
    if equals and name.strip().replace("-", "").isalpha():
        return True
    return part.removesuffix("px").strip(" x0123456789") == "" or (part.isascii() and part.isalpha() and part.islower())


def _without_qualifier(name: str) -> str:
    """What `[[Mercury (planet)|]]` shows."""
    return name.partition(" (")[0].partition("（")[0].strip()
