"""Personal data is found with its checksum, and numbers that are something else stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.corpus.clean.personal import is_card, is_chinese_id, is_iban


def chinese_id(first_17):
    weighted = sum(int(digit) * pow(2, 17 - index, 11) for index, digit in enumerate(first_17))
    return first_17 + "10X98765432"[weighted % 11]


ID = chinese_id("11010519491231002")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("write to jane.doe+x@mail.example.org.", "write to [EMAIL]."),
        ("联系邮箱：someone@example.com，谢谢", "联系邮箱：[EMAIL]，谢谢"),
        (f"身份证号{ID}。", "身份证号[CHINESE_ID]。"),
        ("5500005555555559", "[CARD]"),
        ("card 4111 1111 1111 1111 and 378282246310005", "card [CARD] and [CARD]"),
        ("IBAN DE89 3704 0044 0532 0130 00.", "IBAN [IBAN]."),
        ("GB82WEST12345698765432", "[IBAN]"),
        ("server 93.184.216.34 and 2001:4860:4860::8888", "server [IP] and [IP]"),
        ("call +44 20 7946 0958 or (212) 555-0123", "call [PHONE] or [PHONE]"),
        ("电话13812345678，座机010-12345678", "电话[PHONE]，座机[PHONE]"),
        ("03-1234-5678 / 090-1234-5678", "[PHONE] / [PHONE]"),
        ("010-1234-5678", "[PHONE]"),
    ],
)
def test_values_are_masked_and_counted(run, text, masked):
    cleaned, changes = run(text, personal_data={})
    assert cleaned == masked
    assert sum(changes.edits.values()) == masked.count("[")
    assert run(cleaned, personal_data={})[0] == cleaned


@pytest.mark.parametrize(
    "text",
    [
        "from 1914-1918 and 1939 to 1945, pp. 123-456",
        "ISBN 978-3-16-148410-0",
        "version 1.2.3.4 of 10.0.0.1 at 127.0.0.1 and 192.168.1.1",
        "4111 1111 1111 1112 is no card",
        "110105194912310020 is no identity number",
        "a total of 1,234,567,890 people on 2024-01-31 at 12:30:45",
        "pi is 3.14159265358979",
        "std::vector and a::b and 12:30",
        "@home and me@localhost",
        "John 3:16-18, Psalm 119:105",
        "coordinates 48.8566, 2.3522; population 2148271; 39 00 N, 22 00 E",
    ],
)
def test_other_numbers_stay(run, text):
    assert run(text, personal_data={})[0] == text


def test_keep_drop_and_placeholder(run):
    text = f"{ID} a@b.example"
    assert run(text, personal_data={"email": "keep", "placeholder": "<{kind}>"})[0] == "<CHINESE_ID> a@b.example"
    dropped, _ = run(text, personal_data={"chinese_id": "drop"})
    assert (dropped.reason, dropped.value, dropped.bound) == ("personal data: CHINESE_ID", 1, 0)
    assert ID not in dropped.excerpt
    _, changes = run(text, personal_data={})
    assert ID not in str(changes.samples)


@given(st.integers(10**12, 10**17))
def test_every_change_of_one_digit_breaks_a_card_number(number):
    digits = str(number)
    (check,) = [str(last) for last in range(10) if is_card(digits + str(last))]
    for place, digit in enumerate(digits):
        assert not is_card(digits[:place] + str((int(digit) + 1) % 10) + digits[place + 1 :] + check)


def test_checksums():
    assert is_chinese_id(ID)
    assert not is_chinese_id("11010519491331002X")
    assert is_iban("FR14 2004 1010 0505 0001 3M02 606")
    assert not is_iban("FR15 2004 1010 0505 0001 3M02 606")
    assert not is_card("0000 0000 0000 0000")
    assert is_card("4111-1111-1111-1111")
