"""Nothing of a compressed file is used before its end was seen, and no file makes memory or disk grow without bound."""

import bz2
import errno
import gzip
import io
import random

import pytest
import zstandard

from groundup.corpus.reading import compressed
from groundup.corpus.reading.compressed import DamagedFile, expand, spool

TEXT = b"".join(b"line %d of a text that compresses\n" % i for i in range(4000))
PACK = {"gzip": gzip.compress, "bz2": bz2.compress, "zstd": zstandard.ZstdCompressor(write_checksum=True).compress}


@pytest.mark.parametrize("kind", PACK)
def test_one_and_several_members_come_out_whole(kind, tmp_path):
    third = len(TEXT) // 3
    members = PACK[kind](TEXT[:third]) + PACK[kind](b"") + PACK[kind](TEXT[third:])
    for packed in (PACK[kind](TEXT), members):
        with spool(io.BytesIO(packed), kind, tmp_path, len(TEXT)) as plain:
            assert plain.read() == TEXT


@pytest.mark.parametrize("kind", PACK)
def test_every_truncation_is_named(kind, tmp_path):
    packed = PACK[kind](TEXT)
    for cut in (1, 2, 5, len(packed) // 2, len(packed) - 4):
        with pytest.raises(DamagedFile, match=f"truncated {kind}"):
            spool(io.BytesIO(packed[:-cut]), kind, tmp_path, 1 << 20)


@pytest.mark.parametrize("kind", PACK)
def test_a_flipped_bit_is_found(kind, tmp_path):
    packed = bytearray(PACK[kind](TEXT))
    packed[len(packed) // 2] ^= 4
    with pytest.raises(DamagedFile, match=kind):
        spool(io.BytesIO(bytes(packed)), kind, tmp_path, 1 << 20)


def test_gzip_checksum_and_padding(tmp_path):
    packed = bytearray(gzip.compress(TEXT))
    packed[-8] ^= 1
    with pytest.raises(DamagedFile, match="gzip checksum error"):
        spool(io.BytesIO(bytes(packed)), "gzip", tmp_path, 1 << 20)
    with spool(io.BytesIO(gzip.compress(TEXT) + bytes(70_000)), "gzip", tmp_path, 1 << 20) as plain:
        assert plain.read() == TEXT
    with pytest.raises(DamagedFile, match="foreign bytes behind gzip"):
        spool(io.BytesIO(gzip.compress(TEXT) + b"garbage"), "gzip", tmp_path, 1 << 20)


@pytest.mark.parametrize("kind", PACK)
def test_bombs_are_stopped_in_small_blocks(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(compressed, "RATIO_FREE_BYTES", 1 << 20)
    bomb = PACK[kind](bytes(8 << 20))
    with pytest.raises(DamagedFile, match=r"expands too far.*bomb"):
        spool(io.BytesIO(bomb), kind, tmp_path, 1 << 30)
    with pytest.raises(DamagedFile, match="max_expanded_bytes"):
        spool(io.BytesIO(PACK[kind](TEXT)), kind, tmp_path, 1000)


def test_a_bz2_block_cannot_flood_memory():
    bomb = bz2.compress(bytes(100 << 20))
    assert max(len(block) for block in expand(io.BytesIO(bomb), "bz2")) <= 16 << 20


def test_a_large_zstd_window_is_refused(tmp_path):
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=28)
    writer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()  # unknown size keeps the window
    packed = writer.compress(TEXT) + writer.flush()
    with pytest.raises(DamagedFile, match="zstd window too large"):
        spool(io.BytesIO(packed), "zstd", tmp_path, 1 << 20)


@pytest.mark.parametrize("kind", PACK)
def test_a_disk_that_does_not_give_the_bytes_is_no_fault_of_the_file(kind, tmp_path):
    class Failing(io.BytesIO):
        def read(self, size=-1):
            if self.tell() > 0:
                raise OSError(errno.EIO, "Input/output error")
            return super().read(size)

    with pytest.raises(OSError, match="Input/output error"):
        spool(Failing(PACK[kind](random.Random(1).randbytes(1 << 19))), kind, tmp_path, 1 << 24)
