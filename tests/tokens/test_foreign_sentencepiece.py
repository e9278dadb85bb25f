from __future__ import annotations

import io
import random
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundup.errors import ModelFileError
from groundup.tokens import Tokenizer, load_foreign
from tests.tokens.conftest import AUSTEN, TEXTS
from tests.tokens.foreign_files import field

RELAXED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
KINDS = [("unigram", True), ("unigram", False), ("bpe", True), ("char", False)]
sentencepiece = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed: pip install sentencepiece")


def train(kind: str, byte_fallback: bool) -> bytes:
    made = io.BytesIO()
    lines = [line for text in TEXTS for line in text.splitlines()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=made, model_type=kind, vocab_size=400, hard_vocab_limit=False,
        byte_fallback=byte_fallback, user_defined_symbols=["<sep>"], minloglevel=2, num_threads=1,
    )  # fmt: skip
    return made.getvalue()


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: f"{kind[0]}-{kind[1]}")
def model(request: pytest.FixtureRequest) -> bytes:
    kind, byte_fallback = request.param
    return train(kind, byte_fallback)


@pytest.fixture(scope="module")
def taken(model: bytes, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("sentencepiece") / "tokenizer.model"
    path.write_bytes(model)
    tokenizer, done = load_foreign(path)
    assert done["format"] == "sentencepiece"
    assert done["control"]["<|endoftext|>"] == "</s>"
    return tokenizer


@RELAXED
@given(
    text=st.lists(st.sampled_from([*AUSTEN.split(), "naïve", "<sep>", "中", "Größe,", "xyzzy", "€", "x€y"]), min_size=1)
)
def test_ids_are_those_of_the_library(model: bytes, taken: Tokenizer, text: list[str]) -> None:
    """The library puts a space before the text, and takes surplus ones away; a model without bytes knows no euro."""
    library = sentencepiece.SentencePieceProcessor(model_proto=model)
    line = " ".join(text)
    expected = library.encode(line)
    if library.unk_id() not in expected and not line.startswith("<sep>"):
        assert taken.encode(f" {line}") == expected


@RELAXED
@given(text=st.text() | st.text("▁ \n\tIt is<0x41>\x00€"))
def test_any_text_comes_back(taken: Tokenizer, text: str) -> None:
    ids = taken.encode(text)
    assert taken.decode(ids, skip_control=False) == text
    assert not taken.control_ids.intersection(ids)


def piece(text: bytes, score: bytes = struct.pack("<f", -1.0), kind: int = 1) -> bytes:
    return field(1, field(1, text) + b"\x15" + score + field(3, kind))


WORD_MODEL = field(2, field(3, 3))
DAMAGED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "no pieces"),
    "no buffer": (b"\xff" * 40, "no number"),
    "a length beyond the file": (b"\x0a\xff\xff\xff\x7f", "cut off"),
    "an unknown kind of field": (b"\x0b", "unknown field"),
    "a score that is none": (piece(b"a", struct.pack("<f", float("nan"))), "no number"),
    "a byte that is none": (piece(b"<0xZZ>", kind=6), "a byte that is none"),
    "an endless piece": (piece(b"a" * 10_000), "a piece of 10000 bytes"),
    "words": (piece(b"a") + WORD_MODEL, "model of words"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_refused(tmp_path: Path, name: str) -> None:
    data, reason = DAMAGED[name]
    (tmp_path / "bad.model").write_bytes(data)
    with pytest.raises(ModelFileError, match=reason):
        load_foreign(tmp_path / "bad.model")


def test_pieces_that_stand_for_the_same_keep_one(tmp_path: Path) -> None:
    pieces = piece(b"<unk>", kind=2) + piece(b"a") + piece(b"a") + piece(b" b") + piece("▁b".encode())
    (tmp_path / "twice.model").write_bytes(pieces)
    tokenizer, _ = load_foreign(tmp_path / "twice.model")
    assert tokenizer.decode(tokenizer.encode("a b ▁b<|unused_2|>")) == "a b ▁b<|unused_2|>"
    assert tokenizer.encode("a") == [1]


def test_no_mutation_gets_past_with_another_error(model: bytes, tmp_path: Path) -> None:
    random_numbers = random.Random(1)
    for _ in range(20):
        bad = bytearray(model)
        at = random_numbers.randrange(len(bad))
        bad[at : at + random_numbers.randrange(3)] = random_numbers.randbytes(random_numbers.randrange(3))
        (tmp_path / "bad.model").write_bytes(bad)
        try:
            tokenizer, _ = load_foreign(tmp_path / "bad.model")
        except ModelFileError:
            continue
        assert tokenizer.decode(tokenizer.encode("It is a truth.")) == "It is a truth."
