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
_SIGN_IN_WORD = re.compile(r"(?<=[^\W\d_])[“”„‚‡†‰ˆ§¤¢£](?=[^\W\d_])|(?<=[^\W\d_])[•…](?=[ ,.])|(?<![^\W\d_])Š(?=[ ,])")
"""What é, ä, ö, ò, à and è of DOS become in Windows."""
_WESTERN = frozenset("äöüßéèêëàâáçîïíìôóòûùúñåøæœÿªº" + "äöüéèêëàâáçîïíìôóòûùúñåøæœ".upper())
_MOSTLY_PLAIN = 0.6
"""Share of ASCII in words with other letters, in any Western language; in Russian read as one it is 0."""
_WORD = re.compile(r"[^\W\d_]+")
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


def is_western(text: str) -> bool:
    """Whether it can be a mixture of Western European languages: no letters but theirs beyond ASCII, in words that are
    mostly ASCII. Letters that these rarely have and that others turn into (Hungarian ő into õ, Turkish ğ into ð) count
    against it.
    """
    text = text[:_CHARACTERS]
    words = _WORD.findall(text)
    foreign = [word for word in words if not word.isascii()]
    plain = sum(character.isascii() for word in foreign for character in word)
    return (
        _WESTERN.issuperset(character for word in foreign for character in word if not character.isascii())
        and plain >= _MOSTLY_PLAIN * sum(map(len, foreign))
        and is_written(text)
    )


def _turned_share(text: str) -> float:
    """Share of words with a small first letter and a capital after it, or signs of encodings inside a word."""
    words = _TURNED_CASE.findall(text)
    turned = sum(word[0].islower() and not word.islower() and word[1:] != word[1:].lower() for word in words)
    turned += sum(1 for _ in _SIGN_IN_WORD.finditer(text))
    return turned / len(words) if words else 0.0
