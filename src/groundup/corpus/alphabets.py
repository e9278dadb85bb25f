"""Text -> whether it can be the spelling of some language: a check on what a detector of encodings says.

A text decoded by the wrong table mixes letters that no one language has ("Õrség" for "Őrség", "╣ього" for "цього") or
turns the case of letters inside words.

Invariant: a text is spelled when one alphabet has nearly all letters beyond ASCII of its first 20,000 characters.
"""

from __future__ import annotations

import re
import unicodedata

_LATIN = (
    "äöüßéèàô",  # German
    "àâæçèéêëîïôœùûüÿñ",  # French
    "áéíñóúü¿¡ªº",  # Spanish
    "àèéíïòóúüç·",  # Catalan
    "àáâãçéêíóôõúüªº",  # Portuguese
    "àèéìíîòóùú",  # Italian
    "áâäèéêëíïóôöúûü",  # Dutch, Afrikaans
    "åäöéèüà",  # Swedish, Finnish
    "æøåéòóôüä",  # Danish, Norwegian
    "áðéíóúýþæö",  # Icelandic
    "ąćęłńóśźż",  # Polish
    "áčďéěíňóřšťúůýžöüä",  # Czech
    "áäčďéíĺľňóôŕšťúýžě",  # Slovak
    "áéíóöőúüű",  # Hungarian
    "ăâîșțşţ",  # Romanian
    "čćđšž",  # Croatian, Slovene, Bosnian
    "äõöüšž",  # Estonian
    "āčēģīķļņšūžōŗ",  # Latvian
    "ąčęėįšųūž",  # Lithuanian
    "âçğıîöşüûİ",  # Turkish
    "ĉĝĥĵŝŭ",  # Esperanto
    "ċġħżàèìòù",  # Maltese
    "âêîôûŵŷáéíóúàèìòùäëïöü",  # Welsh
    "áéíóúàèìòù",  # Irish, Scottish Gaelic
    "ăâđêôơưàảãáạằẳẵắặầẩẫấậèẻẽéẹềểễếệìỉĩíịòỏõóọồổỗốộờởỡớợùủũúụừửữứựỳỷỹýỵ\u0300\u0301\u0303\u0309\u0323",  # Vietnamese
)
_OTHERS = (
    "абвгдеёжзийклмнопрстуфхцчшщъыьэюя",  # Russian
    "абвгґдеєжзиіїйклмнопрстуфхцчшщьюя",  # Ukrainian
    "абвгдеёжзійклмнопрстуўфхцчшыьэюя",  # Belarusian
    "абвгдежзийклмнопрстуфхцчшщъьюя",  # Bulgarian
    "абвгдђежзијклљмнњопрстћуфхцчџш",  # Serbian
    "абвгдѓежзѕијклљмнњопрстќуфхцчџшѐѝ",  # Macedonian
    "αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώϊϋΐΰ",  # Greek
    "".join(map(chr, range(0x05B0, 0x05F5))),  # Hebrew
    "".join(map(chr, range(0x0600, 0x06FF))) + "\u200c\u200d",  # Arabic
    "".join(map(chr, range(0x0E01, 0x0E5C))),  # Thai
)
_ALPHABETS = tuple(frozenset(letters + letters.upper()) for letters in _LATIN + _OTHERS)
_FEWER_THAN_ASCII = frozenset(_ALPHABETS[: len(_LATIN)])
_SIGNS = frozenset("\u00a0\u00ad–—‘’‚“”„†•…‹›«»€£§©®°±²³´¶·¹½¼¾×№")
_TYPOGRAPHIC = frozenset("\u00a0–—‘’‚“”„•…«»·°§€£©®")
_TURNED_CASE = re.compile(r"[^\W\d_]{2,}")
_MISFIT_SHARE = 0.02
_LETTER_SHARE = 0.8
_CHARACTERS = 20_000
_TURNED_SHARE = 0.05


def is_spelled(text: str) -> bool:
    """Whether one alphabet covers the letters beyond ASCII, with the case of words as people write it."""
    text = text[:_CHARACTERS]
    foreign = [character for character in text if not character.isascii() and character not in _SIGNS]
    if not foreign:
        return any(character in _TYPOGRAPHIC for character in text)
    if _turned_share(text) > _TURNED_SHARE:
        return False
    letters = sum(character.isalpha() or unicodedata.combining(character) > 0 for character in text)
    allowed = _MISFIT_SHARE * len(foreign)
    for alphabet in _ALPHABETS:
        if alphabet in _FEWER_THAN_ASCII and len(foreign) > letters / 2:
            continue
        if sum(character not in alphabet for character in foreign) <= allowed:
            return True
    return False


def is_written(text: str) -> bool:
    """Whether what is beyond ASCII is nearly all letters, in words with an ordinary case: a weaker sign, for mixtures
    of languages.
    """
    text = text[:_CHARACTERS]
    foreign = [character for character in text if not character.isascii() and character not in _TYPOGRAPHIC]
    letters = sum(unicodedata.category(character)[0] in "LM" for character in foreign)
    return letters >= _LETTER_SHARE * len(foreign) and _turned_share(text) <= _TURNED_SHARE


def _turned_share(text: str) -> float:
    """Share of words with a small first letter and a capital after it, or signs of encodings inside a word."""
    words = _TURNED_CASE.findall(text)
    turned = sum(word[0].islower() and not word.islower() and word[1:] != word[1:].lower() for word in words)
    return turned / len(words) if words else 0.0
