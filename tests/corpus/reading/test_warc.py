"""Pages come out record by record; what is damaged or cut is rejected by itself and the rest is read."""

import gzip
import io
import json
import zlib

import pytest
import zstandard

from groundup.corpus.reading.files import RawFile
from groundup.corpus.reading.readers import Reading, Rejected
from groundup.corpus.reading.sources import SourceConfig
from groundup.corpus.reading.warc import NoPage, WarcPage, begins_warc, read_warc
from tests.corpus.languages import TEXTS


def record(kind, content, url="http://e.org/", content_type="application/http; msgtype=response", length=None):
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:1>\r\nWARC-Target-URI: {url}\r\n"
    head += f"Content-Type: {content_type}\r\nContent-Length: {len(content) if length is None else length}\r\n\r\n"
    return head.encode() + content + b"\r\n\r\n"


def response(body, content_type="text/html; charset=utf-8", status="200 OK", more="", url="http://e.org/"):
    http = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{more}\r\n".encode()
    return record("response", http + body, url)


def page(text, title="A title"):
    paragraphs = "".join(f"<p>{part}</p>" for part in text.split("\n\n"))
    return f"<html lang=en><head><title>{title}</title></head><body><article>{paragraphs}</article></body></html>"


INFO = record("warcinfo", b"software: x\r\n", content_type="application/warc-fields")
PAGES = [response(page(TEXTS["en"] + str(i)).encode(), url=f"http://e.org/{i}") for i in range(4)]


def read(data, folder, compression="", page_limit_bytes=1 << 20):
    return list(read_warc(io.BytesIO(data), compression, folder, 1 << 24, page_limit_bytes))


def urls(records):
    return [found.url if isinstance(found, WarcPage) else found.reason for found in records]


def test_records_of_every_kind(tmp_path):
    data = INFO + record("request", b"GET / HTTP/1.1\r\n\r\n") + b"".join(PAGES)
    data += record("conversion", b"plain words", "http://e.org/wet", "text/plain")
    found = read(data, tmp_path)
    assert urls(found) == [
        "WARC record without a page (warcinfo)",
        "WARC record without a page (request)",
        *(f"http://e.org/{i}" for i in range(4)),
        "http://e.org/wet",
    ]
    assert (found[2].kind, found[2].charset, found[2].record_id) == ("html", "utf-8", "urn:uuid:1")
    assert (found[6].kind, found[6].data) == ("text", b"plain words")


@pytest.mark.parametrize("together", [False, True])
def test_gzip_a_record_or_a_file(together, tmp_path):
    data = gzip.compress(b"".join(PAGES)) if together else b"".join(map(gzip.compress, PAGES))
    assert urls(read(data, tmp_path, "gzip")) == [f"http://e.org/{i}" for i in range(4)]
    assert begins_warc(io.BytesIO(data), "gzip")
    assert not begins_warc(io.BytesIO(gzip.compress(b"words")), "gzip")


def test_padding_and_other_compressions(tmp_path):
    padded = gzip.compress(PAGES[0]) + bytes(5000) + gzip.compress(PAGES[1]) + bytes(300)
    assert urls(read(padded, tmp_path, "gzip")) == ["http://e.org/0", "http://e.org/1"]
    path = tmp_path / "a.warc.zst"
    path.write_bytes(zstandard.compress(b"".join(PAGES)))
    reading = Reading(RawFile(path.name, path), SourceConfig(name="s", path="s", extractor="resiliparse"), tmp_path)
    assert len(list(reading)) == 4
    assert str(reading.detected) == "WARC in zstd: 4 x UTF-8, declared"


def test_every_cut_loses_one_record_and_says_so(tmp_path):
    packed, plain = b"".join(map(gzip.compress, PAGES)), b"".join(PAGES)
    for cut in range(1, len(gzip.compress(PAGES[3])), 37):
        assert urls(read(packed[:-cut], tmp_path, "gzip"))[-2:] == ["http://e.org/2", "truncated gzip"]
    for cut in range(5, len(PAGES[3]) - 5, 37):
        assert urls(read(plain[:-cut], tmp_path))[3] in ("truncated WARC record", "damaged WARC record")


def test_behind_a_damaged_member_reading_goes_on(tmp_path):
    packed = [bytearray(gzip.compress(one)) for one in PAGES]
    packed[1][-6] ^= 1
    packed[2][-20] ^= 1
    found = read(b"".join(map(bytes, packed)), tmp_path, "gzip")
    assert urls(found) == ["http://e.org/0", "damaged gzip", "damaged gzip", "http://e.org/3"]


@pytest.mark.parametrize(
    "fault",
    [
        b"garbage without a header\r\n\r\n",
        record("response", b"x", length=-5),
        record("response", b"x", length="many"),
        b"WARC/1.0\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
    ],
)
def test_a_damaged_record_is_one_rejection(fault, tmp_path):
    found = urls(read(PAGES[0] + fault + PAGES[1], tmp_path))
    assert found[0] == "http://e.org/0"
    assert found[-1] == "http://e.org/1"
    assert 1 <= found.count("damaged WARC record") == len(found) - 2 <= 2


def test_a_length_beyond_the_file_is_truncation_and_costs_no_memory(tmp_path):
    found = read(PAGES[0] + record("request", b"x", length=10**17), tmp_path)
    assert urls(found) == ["http://e.org/0", "truncated WARC record"]
    assert urls(read(record("response", b"x", length=10**17), tmp_path)) == ["truncated WARC record"]


def test_encodings_of_transfer_and_content(tmp_path):
    body = page(TEXTS["en"]).encode()
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:100], body[100:])) + b"0\r\n\r\n"
    packed = [
        response(chunked, more="Transfer-Encoding: chunked\r\n"),
        response(body, more="Transfer-Encoding: chunked\r\n"),  # taken away by the crawler, but still said
        response(gzip.compress(body), more="Content-Encoding: gzip\r\n"),
        response(zstandard.compress(body), more="Content-Encoding: zstd\r\n"),
        response(body, more="Content-Encoding: gzip\r\n"),
        response(zlib.compress(body), more="Content-Encoding: deflate\r\n"),
        response(zlib.compress(body)[2:-4], more="Content-Encoding: deflate\r\n"),  # as some servers do
        response(body, more="Content-Encoding: deflate\r\n"),
        response(b"...", more="Content-Encoding: br\r\n"),
        response(gzip.compress(body)[:-9], more="Content-Encoding: gzip\r\n"),
    ]
    found = read(b"".join(packed), tmp_path)
    assert [one.data if isinstance(one, WarcPage) else one.reason for one in found] == [body] * 8 + [
        "damaged HTTP response"
    ] * 2


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (response(b"gone", status="404 Not Found"), "HTTP status other than 200"),
        (response(b"\x89PNG", "image/png"), "no page of HTML or plain text"),
        (record("response", b"no http"), "damaged HTTP response"),
        (response(b"x" * 3000), "page too large"),
    ],
)
def test_what_is_no_page_has_a_reason(data, reason, tmp_path):
    (found,) = read(data, tmp_path, page_limit_bytes=2000)
    assert isinstance(found, NoPage)
    assert found.reason == reason


def test_a_bomb_inside_a_page_is_stopped(tmp_path):
    data = response(gzip.compress(bytes(8 << 20)), more="Content-Encoding: gzip\r\n")
    (found,) = read(data, tmp_path)
    assert found.reason == "damaged HTTP response"
    (found,) = read(gzip.compress(record("response", bytes(17 << 20))), tmp_path, "gzip")
    assert found.reason == "expands too far"


def test_documents_with_address_title_and_encoding(tmp_path):
    pages = [
        response(page(TEXTS["zh"], "茶馆").encode("gb18030"), "text/html; charset=gb2312", url="http://e.cn/1"),
        response(page(TEXTS["ru"]).encode("koi8-r"), "text/html", url="http://e.ru/2"),
        response(b"<html><body></body></html>", url="http://e.org/3"),
    ]
    path = tmp_path / "a.warc.gz"
    path.write_bytes(b"".join(map(gzip.compress, [INFO, *pages])))
    source = SourceConfig(name="s", path="s", metadata_fields=("url", "title", "date"), extractor="resiliparse")
    reading = Reading(RawFile("a.warc.gz", path), source, tmp_path)
    info, first, second, third = list(reading)
    assert isinstance(info, Rejected)
    assert first.id == "a.warc.gz:2"
    assert first.text.split() == TEXTS["zh"].split()
    assert dict(first.metadata) == {"id": "urn:uuid:1", "url": "http://e.cn/1", "title": "茶馆", "date": ""}
    assert second.text.split() == TEXTS["ru"].split()
    assert (third.reason, third.sample) == ("page without a main text", "http://e.org/3")
    assert str(reading.detected) == ("WARC in gzip: 1 x GB18030, declared, 1 x KOI8-U, detected, 1 x UTF-8, declared")
    assert json.dumps(dict(first.metadata))
