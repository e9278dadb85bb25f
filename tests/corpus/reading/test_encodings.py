"""An encoding is found and right, or refused with its candidates; nothing becomes U+FFFD unless it was asked for."""

import io

import pytest

from groundup.corpus.reading.alphabets import is_spelled, is_western, is_written
from groundup.corpus.reading.compressed import DamagedFile
from groundup.corpus.reading.encoding_names import UTF_8, Encoding, byte_order_mark, named
from groundup.corpus.reading.encodings import BLOCK_BYTES, Transcoder, declared_in_xml, find_encoding
from tests.corpus.languages import ENCODINGS, PAIRS, TEXTS, WIDE, encoded

GERMAN = TEXTS["de"]


def found(data, asked=""):
    encoding, mark_bytes = find_encoding(io.BytesIO(data), asked)
    handle = io.BytesIO(data)
    handle.seek(mark_bytes)
    return encoding, b"".join(Transcoder(handle, encoding, False).blocks()).decode()


@pytest.mark.parametrize(("language", "encoding"), PAIRS)
def test_two_paragraphs_are_enough_for_every_legacy_encoding(language, encoding):
    data, text = encoded(language, encoding)
    guess, decoded = found(data)
    assert decoded == text
    assert guess.how == "detected"


@pytest.mark.parametrize("language", ["en", "ru", "th", "zh", "ja"])
@pytest.mark.parametrize("encoding", WIDE)
def test_wide_encodings_without_a_mark(language, encoding):
    guess, decoded = found(TEXTS[language].encode(encoding))
    assert (guess.codec, decoded) == (encoding, TEXTS[language])


@pytest.mark.parametrize("language", TEXTS)
def test_utf8_is_utf8(language):
    assert found(TEXTS[language].encode()) == (UTF_8, TEXTS[language])
    assert found(TEXTS[language].encode("utf-8-sig"))[0] == Encoding("UTF-8", "mark")


@pytest.mark.parametrize("language", ENCODINGS)
def test_short_texts_are_right_or_refused(language):
    for encoding in ENCODINGS[language]:
        for start in range(0, 400, 9):
            piece = TEXTS[language][start : start + 30].encode(encoding, "ignore")
            if piece.isascii() and encoding not in ("hz", "iso2022_jp"):
                continue
            try:
                _, decoded = found(piece)
            except DamagedFile as error:
                assert error.reason == "encoding not certain"
                assert "set `encoding:`" in error.detail
            else:
                assert decoded == piece.decode(encoding), (encoding, start)


def test_the_refusal_names_candidates_and_the_byte():
    with pytest.raises(DamagedFile, match="no UTF-8 at byte 3; Windows-1252"):
        find_encoding(io.BytesIO("Café naïve über Straße".encode("latin-1")))


@pytest.mark.parametrize("before", [0, 100_000, BLOCK_BYTES - 1, 3 * BLOCK_BYTES + 5])
def test_foreign_text_behind_much_ascii_and_in_one_long_line(before):
    chinese = TEXTS["zh"].replace("\n", "") * 40
    data = b"a" * before + b"\n" + (chinese * 30).encode("gb18030")
    guess, decoded = found(data)
    assert guess == Encoding("GB18030", "detected")
    assert decoded == data.decode("gb18030")


def test_a_few_faults_do_not_turn_utf8_into_something_else():
    data = bytearray(TEXTS["fr"].encode() * 50)
    data[20_000:20_002] = b"\xe9\xff"
    assert find_encoding(io.BytesIO(bytes(data)))[0] == UTF_8


def test_what_is_asked_for_is_taken_but_a_mark_wins():
    assert found(GERMAN.encode("cp1252"), "Windows-1252") == (Encoding("Windows-1252", "given"), GERMAN)
    assert found(GERMAN.encode("utf-16"), "Windows-1252")[1] == GERMAN
    with pytest.raises(DamagedFile, match=r"not Shift-JIS text: invalid at byte \d+"):
        found(TEXTS["zh"].encode("gb18030"), "Shift-JIS")


@pytest.mark.parametrize(("start", "label"), [("", "iso-8859-1"), ("\n", "GB2312"), ("", "")])
def test_the_label_of_an_xml_declaration(start, label):
    encoding = f" encoding='{label}'" if label else ""
    assert declared_in_xml(f"{start}<?xml version='1.0'{encoding}?><a encoding='b'/>".encode()) == label


@pytest.mark.parametrize(
    ("data", "label", "expected"),
    [
        (GERMAN.encode("cp1252"), "windows-1252", Encoding("Windows-1252", "declared")),
        ("Öl".encode("gb18030"), "gb2312", Encoding("GB18030", "declared")),
        (b"only ASCII so far", "iso-8859-1", Encoding("Windows-1252", "declared")),
        (GERMAN.encode(), "iso-8859-1", UTF_8),
        (GERMAN.encode(), "utf-16", UTF_8),
        (b"caf\xe9", "utf-8", UTF_8),
        (GERMAN.encode("utf-16"), "utf-8", Encoding("UTF-16-LE", "mark")),
        (GERMAN.encode("cp1252"), "ascii", Encoding("Windows-1252", "detected")),
    ],
)
def test_a_declared_encoding_is_believed_unless_the_text_is_utf8(data, label, expected):
    assert find_encoding(io.BytesIO(data), declared=label)[0] == expected


def test_an_unknown_declared_encoding_is_refused_unless_one_is_asked_for():
    for label in ("klingon", "hex", "utf-7"):
        with pytest.raises(DamagedFile, match="unknown encoding: it declares"):
            find_encoding(io.BytesIO(b"a"), declared=label)
        assert find_encoding(io.BytesIO(b"a"), "UTF-8", label)[0] == Encoding("UTF-8", "given")


def test_ascii_with_a_nul_is_no_utf16():
    data = b"wordword" * 10 + b"\0\n" + b"wordword" * 10
    assert find_encoding(io.BytesIO(data))[0] == UTF_8


def test_a_few_control_characters_do_not_hide_an_encoding():
    for language, encoding in (("zh", "gb18030"), ("fr", "cp1252"), ("ru", "koi8-r")):
        data = TEXTS[language].encode(encoding)
        assert found(data[:40] + b"\x08" + data[40:] + b"\x1a")[1].replace("\x08", "")[:-1] == data.decode(encoding)


def test_binary_data_has_no_encoding():
    with pytest.raises(DamagedFile, match="binary data"):
        find_encoding(io.BytesIO(bytes(range(256)) * 4))


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("gb2312", "GB18030"),
        ("GBK", "GB18030"),
        ("x-sjis", "Shift-JIS"),
        ("ks_c_5601-1987", "EUC-KR"),
        ("latin-1", "ISO-8859-1"),
        ("windows-1252", "Windows-1252"),
        ("utf8", "UTF-8"),
        ("idna", ""),
        ("unicode_escape", ""),
        ("base64", ""),
        ("utf-7", ""),
        ("no such thing", ""),
    ],
)
def test_labels_mean_what_browsers_read_and_no_code(label, name):
    assert named(label) == name


def test_replacing_is_counted():
    transcoder = Transcoder(io.BytesIO("grün\n".encode("latin-1") * 3), UTF_8, True)
    assert b"".join(transcoder.blocks()).decode() == "gr�n\n" * 3
    assert transcoder.replaced == 3


@pytest.mark.parametrize("size", [1, 2, 3, BLOCK_BYTES])
def test_characters_across_blocks_stay_whole(monkeypatch, size):
    monkeypatch.setattr("groundup.corpus.reading.encodings.BLOCK_BYTES", size)
    for encoding in ("gb18030", "utf-16-le", "utf-32-be"):
        name = named(encoding)
        blocks = Transcoder(io.BytesIO(TEXTS["zh"].encode(encoding)), Encoding(name, "given"), False).blocks()
        assert b"".join(blocks).decode() == TEXTS["zh"]


def test_marks():
    assert byte_order_mark(b"\xff\xfe\x00\x00") == ("UTF-32-LE", 4)
    assert byte_order_mark(b"\xff\xfea\x00") == ("UTF-16-LE", 2)
    assert byte_order_mark(b"abc") == ("", 0)


def test_spelling_tells_an_alphabet_from_a_mixture():
    assert all(is_spelled(TEXTS[language]) for language in ("de", "fr", "pl", "hu", "tr", "vi", "ru", "uk", "el", "he"))
    assert not is_spelled(TEXTS["hu"].encode("iso8859-2").decode("cp1252"))
    assert not is_spelled(TEXTS["ru"].encode("koi8-r").decode("cp1251")), "the case of the letters is turned"
    assert not is_spelled("plain")
    assert is_written("naïve Müller, señor") and not is_written(TEXTS["zh"].encode("gbk").decode("latin-1"))


def test_english_with_windows_quotes_is_certain():
    text = "It’s a short line – with “quotes” of Windows."
    assert found(text.encode("cp1252"))[1] == text


def test_a_mixture_of_western_languages_is_certain_when_long():
    text = "Señor Müller aß à la carte, façon naïve; the Ångström café was chère. " * 4
    assert found(text.encode("latin-1"))[1] == text


@pytest.mark.parametrize("language", ["hu", "tr", "cs", "vi"])
def test_other_languages_read_as_western_ones_are_no_mixture(language):
    data, _ = encoded(language, ENCODINGS[language][0])
    assert not is_western(data.decode("latin-1"))
    assert is_western(TEXTS["fr"] + TEXTS["de"] + TEXTS["es"])


@pytest.mark.parametrize(("language", "encoding"), [("de", "cp850"), ("fr", "cp437"), ("it", "cp850"), ("hu", "cp852")])
def test_texts_of_dos_are_not_taken_for_those_of_windows(language, encoding):
    data = TEXTS[language].encode(encoding, "ignore")
    for piece in (data, data[:300]):
        with pytest.raises(DamagedFile, match="encoding not certain"):
            find_encoding(io.BytesIO(piece))
    assert found(data, named(encoding))[1] == data.decode(encoding)


def test_damaged_chinese_is_not_taken_for_western_text():
    data = TEXTS["zh"].encode("gb18030")
    for place in (10, len(data) // 2, len(data) - 20):
        with pytest.raises(DamagedFile, match="GB18030 with faults\\? set `encoding:` and `invalid_bytes: replace`"):
            find_encoding(io.BytesIO(data[:place] + b"\xff\xff" + data[place:]))
