"""Personal data: found by pattern, confirmed by checksum or range where there is one, then masked or a reason to drop.

    characters that must be there ("@", digits, ":") --> pattern --> check --> placeholder

E-mail addresses; phone numbers (international, North American, Chinese, Japanese, Korean); public IP addresses;
payment cards (Luhn, ISO/IEC 7812); Chinese resident identity numbers (GB 11643, ISO 7064 MOD 11-2); IBAN (ISO 13616,
MOD 97-10).

Invariant: a placeholder is never found again, so masking masked text changes nothing; the time is linear in the text.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from datetime import date
from typing import Literal

from pydantic import Field, field_validator

from groundup.config import Config
from groundup.corpus.clean.text import Dropped, Edited, Outcome, Text

Action = Literal["keep", "mask", "drop"]


class PersonalDataConfig(Config):
    """What happens to each kind of personal data: it is masked, it stays, or the document is dropped."""

    email: Action = "mask"
    """E-mail addresses."""
    ip_address: Action = "mask"
    """Public IPv4 and IPv6 addresses; private, local and documentation ones stay."""
    phone: Action = "mask"
    """Phone numbers with a country code, or in the form of North America, China, Japan or Korea."""
    card: Action = "mask"
    """Numbers of payment cards with a right Luhn checksum."""
    chinese_id: Action = "mask"
    """Chinese resident identity numbers with a right date and checksum."""
    iban: Action = "mask"
    """International bank account numbers with a right checksum."""
    placeholder: str = Field(default="[{kind}]", min_length=1, max_length=60)
    """What stands in place of a value; `{kind}` becomes EMAIL, IP, PHONE, CARD, CHINESE_ID or IBAN."""

    @field_validator("placeholder")
    @classmethod
    def _is_found_no_more(cls, value: str) -> str:
        if re.search(r"[0-9@:]", value):
            raise ValueError("must hold no digit, '@' or ':', so that it is not taken for personal data itself")
        return value


_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9-])"
)
_IPV4 = re.compile(r"(?<![0-9A-Za-z.-])(?:\d{1,3}\.){3}\d{1,3}(?![0-9A-Za-z-]|\.\d)")
_IPV6 = re.compile(r"(?<![0-9A-Za-z:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![0-9A-Za-z:])")
_CHINESE_ID = re.compile(r"(?<![0-9A-Za-z])[1-9]\d{16}[0-9Xx](?![0-9A-Za-z])")
_CARD = re.compile(
    r"(?<![0-9A-Za-z.-])(?:3[47]\d{2}[ -]?\d{6}[ -]?\d{5}|[2-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{1,7})(?![0-9A-Za-z]|-\d)"
)
_IBAN = re.compile(r"(?<![0-9A-Za-z])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![0-9A-Za-z])")
_PHONE = re.compile(
    r"(?<![0-9A-Za-z.+/-])(?:"
    r"\+\d{1,3}[ .-]?(?:\(\d{1,5}\)[ .-]?)?\d(?:[ .-]?\d){5,12}"  # with a country code
    r"|(?:\+?1[ .-])?\(\d{3}\) ?\d{3}[ .-]\d{4}|(?:1-)?[2-9]\d{2}-[2-9]\d{2}-\d{4}"  # North America
    r"|(?:86[ -]?)?1[3-9]\d(?:\d{8}|([ -])\d{4}\1\d{4})"  # Chinese mobile
    r"|0\d{2,3}-\d{7,8}(?:-\d{1,5})?"  # Chinese landline
    r"|0\d{1,3}-\d{2,4}-\d{4}|0[789]0\d{8}|01[016789]\d{7,8}"  # Japan, Korea
    r")(?![0-9A-Za-z]|[.-]\d)"
)
_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FO GL NL",
        19: "MK SI",
        20: "AT BA EE KZ LT LU XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU",
        31: "MT SC",
        32: "LC",
    }.items()
    for country in countries.split()
}
"""Length of an IBAN in each country (the SWIFT registry)."""


def _is_public_address(value: str) -> bool:
    """Global addresses; not what looks like a version or section number, nor names in code such as `a::b`."""
    if not re.match(r"[23][0-9A-Fa-f]{3}:", value) if ":" in value else not re.search(r"\d\d", value):
        return False
    try:
        return ipaddress.ip_address(value).is_global
    except ValueError:
        return False


def is_chinese_id(value: str) -> bool:
    """Whether 18 characters are an identity number: date of birth and check digit."""
    try:
        date(int(value[6:10]), int(value[10:12]), int(value[12:14]))
    except ValueError:
        return False
    weighted = sum(int(digit) * pow(2, 17 - index, 11) for index, digit in enumerate(value[:17]))
    return "10X98765432"[weighted % 11] == value[17].upper() and 1850 <= int(value[6:10]) <= 2100


def is_card(value: str) -> bool:
    """Whether digits (with spaces or dashes) are a card number: length, not all alike, Luhn checksum."""
    digits = [int(character) for character in value if character.isdigit()]
    if not 13 <= len(digits) <= 19 or len(set(digits)) < 2:
        return False
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def is_iban(value: str) -> bool:
    """Whether a value is an IBAN: length of its country, remainder 1 modulo 97."""
    plain = value.replace(" ", "")
    if _IBAN_LENGTHS.get(plain[:2]) != len(plain):
        return False
    return int("".join(str(int(character, 36)) for character in plain[4:] + plain[:4])) % 97 == 1


def _always(value: str) -> bool:
    return True


_KINDS: tuple[tuple[str, str, str, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("email", "EMAIL", "@", _EMAIL, _always),
    ("iban", "IBAN", "", _IBAN, is_iban),
    ("chinese_id", "CHINESE_ID", "", _CHINESE_ID, is_chinese_id),
    ("card", "CARD", "", _CARD, is_card),
    ("ip_address", "IP", ".", _IPV4, _is_public_address),
    ("ip_address", "IP", ":", _IPV6, _is_public_address),
    ("phone", "PHONE", "", _PHONE, _always),
)
"""Field, name in the placeholder, a character that must be there, pattern, check; the surest kinds first."""
_NUMBERS = re.compile(r"\d[\d .()/-]{5,}\d|[A-Z]{2}\d\d[ A-Z0-9]{8}|:[0-9A-Fa-f:]*:")
"""Present wherever a pattern other than the e-mail's can match."""


def personal_data(config: PersonalDataConfig, text: Text) -> Outcome:
    """Masks or drops what the config names; counts the values of each kind."""
    string, counts = text.string, dict[str, int]()
    has_numbers = _NUMBERS.search(string) is not None
    for field, kind, needed, pattern, is_right in _KINDS:
        action: Action = getattr(config, field)
        if action == "keep" or (needed and needed not in string) or (kind != "EMAIL" and not has_numbers):
            continue
        string, found = _masked(string, pattern, is_right, config.placeholder.replace("{kind}", kind))
        if found and action == "drop":
            return Dropped(f"personal data: {kind}", found, 0, excerpt=f"{found} of {kind}")
        if found:
            counts[f"personal data: {kind}"] = counts.get(f"personal data: {kind}", 0) + found
    return Edited(string, counts) if counts else None


def _masked(string: str, pattern: re.Pattern[str], is_right: Callable[[str], bool], mask: str) -> tuple[str, int]:
    pieces, position = [], 0
    for match in pattern.finditer(string):
        if is_right(match[0]):
            pieces += [string[position : match.start()], mask]
            position = match.end()
    return ("".join([*pieces, string[position:]]) if pieces else string), len(pieces) // 2
