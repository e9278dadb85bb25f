"""Blocks and lines that belong to a publisher, a licence or a web page and not to the text.

    Project Gutenberg's header and footer --> cut at their markers
    licence blocks (MIT, Apache, BSD, GPL, Creative Commons) --> cut from their first words to their last
    copyright notices; cookie, newsletter, share and navigation lines --> whole short lines

Invariant: only whole blocks between known words and whole lines go; the time is linear in the text.
"""

from __future__ import annotations

import re

from groundup.config import Config
from groundup.corpus.clean.text import Edited, Outcome, Text

_NOTICE_CHARACTERS = 250
_BLOCK_CHARACTERS, _LINE_CHARACTERS, _REST_CHARACTERS = 6000, 300, 60
_HEADER_CHARACTERS = 60_000

_GUTENBERG = re.compile(
    r"^[ \t]*\*{2,3}[ \t]?(START|END) OF (?:THE |THIS )?PROJECT GUTENBERG[^\n]{0,300}(?:\n[^\n*]{1,200}\*{3})?[^\n]*$"
    r"|^[ \t]*\*?(END)\*? ?THE SMALL PRINT![^\n]*$"
    r"|^[ \t]*(End) of (?:the |this )?Project Gutenberg(?:'s|’s)? [^\n]{0,300}$",
    re.MULTILINE,
)
_CREDIT = re.compile(
    r"\s*(?:(?:E-text|Etext|HTML version)[^\n]* )?(?:Produced|Prepared|Transcribed) by [^\n]*(?:\n[^\n]+){0,5}\n\s*\n"
)

_LICENCES = (  # first words, last words: of the licence's header or of its whole text; characters between them at most
    ("Permission is hereby granted, free of charge", "DEALINGS IN THE SOFTWARE", _BLOCK_CHARACTERS),
    ("Permission is hereby granted, free of charge", "dealings in the software", _BLOCK_CHARACTERS),
    ("Permission to use, copy, modify, and/or distribute", "PERFORMANCE OF THIS SOFTWARE", _BLOCK_CHARACTERS),
    ("Licensed under the Apache License", "limitations under the License", _BLOCK_CHARACTERS),
    ("Licensed to the Apache Software Foundation", "limitations under the License", _BLOCK_CHARACTERS),
    ("Redistribution and use in source and binary forms", "POSSIBILITY OF SUCH DAMAGE", _BLOCK_CHARACTERS),
    ("This program is free software", "www.gnu.org/licenses", _BLOCK_CHARACTERS),
    ("This program is free software", "Boston, MA", _BLOCK_CHARACTERS),
    ("This library is free software", "www.gnu.org/licenses", _BLOCK_CHARACTERS),
    ("This Source Code Form is subject to the terms of the Mozilla", "mozilla.org/MPL/2.0", _BLOCK_CHARACTERS),
    ("This work is licensed under a Creative Commons", "License", _LINE_CHARACTERS),
    ("This work is licensed under the Creative Commons", "License", _LINE_CHARACTERS),
)
_COPYRIGHT = re.compile(
    r"(?:copyright|©|\(c\) ?(?:19|20)\d\d|all rights reserved|spdx-license-identifier"
    r"|版权所有|版權所有|著作权归|無断転載|无断转载"
    r"|未经.{0,8}(?:授权|许可).{0,8}(?:转载|使用)|转载请注明|轉載請註明|저작권자|무단 ?전재)"
)
_OWNED = re.compile(r"(?:19|20)\d\d|reserved|©|\(c\)|spdx|版|权|轉|转|転|전재|저작권자")
_WEB = re.compile(
    r"(?:uses?|using|accept(?: all)?|manage|our use of) cookies|cookie (?:policy|settings|preferences|consent)"
    r"|privacy policy (?:and|\||&) terms|terms (?:of (?:use|service)|and conditions) (?:and|\||&) privacy"
    r"|by (?:continuing to|using|clicking).{0,60}(?:you agree|you accept|you consent)"
    r"|(?:subscribe|sign up) (?:to|for) (?:our|the) (?:free |daily |weekly )?newsletter"
    r"|^(?:share|tweet|pin|e-?mail|print)(?: this)?"
    r"(?: (?:on|to|via) (?:facebook|twitter|x|linkedin|whatsapp|pinterest|reddit))?$"
    r"|^skip to (?:main )?content|^back to top$|^(?:log in|sign in)(?: (?:or|\||/) (?:register|sign up|join))?$"
    r"|(?:enable|requires?|disabled) javascript|javascript (?:is|must be|to be) (?:disabled|required|enabled)"
    r"|使用.{0,6}cookie|cookie.{0,6}(?:を使用|政策|设置)|クッキーを使用|扫码关注|扫一扫|微信公众号[：:]|责任编辑[：:]|返回顶部|分享到[：:]"
    r"|쿠키를 사용"
)
_NOTICE_WORDS = (
    "copyright",
    "©",
    "(c)",
    "reserved",
    "spdx",
    "转载",
    "轉載",
    "転載",
    "版权",
    "版權",
    "著作权",
    "저작권",
    "무단",
    "授权",
)
_WEB_WORDS = (
    *("cookie", "privacy policy", "newsletter", "skip to", "back to top", "javascript", "sign in", "log in", "share"),
    *("tweet", "pin", "mail", "print", "you agree", "you accept", "you consent", "conditions", "terms of"),
    *("クッキー", "扫", "微信", "责任编辑", "返回顶部", "分享到", "쿠키"),
)


class BoilerplateConfig(Config):
    """Which blocks and lines of publishers, licences and web pages are cut out."""

    gutenberg: bool = True
    """Project Gutenberg's header and footer."""
    licences: bool = True
    """Licence blocks: MIT, ISC, Apache, BSD, GPL, MPL, Creative Commons."""
    notices: bool = True
    """Short lines that are a copyright notice."""
    web: bool = True
    """Short lines about cookies, newsletters, sharing, signing in and navigation."""


def boilerplate(config: BoilerplateConfig, text: Text) -> Outcome:
    """Cut out what the config names; counts blocks and lines."""
    counts: dict[str, int] = {}
    string = text.string
    if config.gutenberg and "gutenberg" in string[:_HEADER_CHARACTERS].lower() + string[-_HEADER_CHARACTERS:].lower():
        string = _without_gutenberg(string, counts)
    if config.licences:
        string = _without_licences(string, counts)
    if config.notices or config.web:
        string = _without_lines(string, config, counts)
    return Edited(string, counts) if counts else None


def _without_gutenberg(string: str, counts: dict[str, int]) -> str:
    """Keeps what lies between START and END markers; several books in one text each keep their own."""
    kept, position, inside = [], 0, True
    markers = list(_GUTENBERG.finditer(string))
    for index, marker in enumerate(markers):
        name = next(group for group in marker.groups() if group)
        starts = name == "START" or "SMALL PRINT" in marker[0]
        if starts:
            header = string[position : marker.start()]
            if not (index == 0 and len(header) > _HEADER_CHARACTERS):
                inside = False
        if inside:
            kept.append(string[position : marker.start()])
        counts["boilerplate: Gutenberg headers" if starts else "boilerplate: Gutenberg footers"] = (
            counts.get("boilerplate: Gutenberg headers" if starts else "boilerplate: Gutenberg footers", 0) + 1
        )
        inside, position = starts, marker.end()
        if starts:
            credit = _CREDIT.match(string, position)
            position = credit.end() if credit else position
    if inside:
        kept.append(string[position:])
    return "\n".join(part.strip("\n") for part in kept) if markers else string


def _without_licences(string: str, counts: dict[str, int]) -> str:
    for first, last, limit in _LICENCES:
        start = string.find(first)
        while start >= 0:
            end = string.find(last, start + len(first), start + limit)
            if end < 0:
                start = string.find(first, start + len(first))
                continue
            line_start = string.rfind("\n", 0, start) + 1
            if not string[line_start:start].strip(" \t#/*;!%-\"'<>"):
                start = line_start  # comment signs before the block go with it
            string = string[:start] + string[_end_of_block(string, end + len(last)) :]
            counts["boilerplate: licence blocks"] = counts.get("boilerplate: licence blocks", 0) + 1
            start = string.find(first, start)
    return string


def _end_of_block(string: str, position: int) -> int:
    """Behind a short rest of the line (an address, comment signs); of a long one only up to the sentence's end."""
    line_end = string.find("\n", position)
    line_end = len(string) if line_end < 0 else line_end + 1
    if line_end - position <= _REST_CHARACTERS:
        return line_end
    sentence = string.find(". ", position, position + _REST_CHARACTERS)
    return position if sentence < 0 else sentence + 2


def _without_lines(string: str, config: BoilerplateConfig, counts: dict[str, int]) -> str:
    lowered = string.lower()
    notices = config.notices and any(word in lowered for word in _NOTICE_WORDS)
    web = config.web and any(word in lowered for word in _WEB_WORDS)
    if not notices and not web:
        return string
    kept = []
    for line in string.split("\n"):
        name = _kind_of_line(line, notices, web) if 3 < len(line) <= _NOTICE_CHARACTERS else ""
        if name:
            counts[name] = counts.get(name, 0) + 1
        else:
            kept.append(line)
    return "\n".join(kept)


def _kind_of_line(line: str, notices: bool, web: bool) -> str:
    lowered = line.strip(" \t#/*;|>-").lower()
    if notices and len(lowered) <= 160 and _COPYRIGHT.match(lowered) and _OWNED.search(lowered):
        return "boilerplate: notices"
    if web and _WEB.search(lowered):
        return "boilerplate: web lines"
    return ""
