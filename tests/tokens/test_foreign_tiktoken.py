from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundup.errors import ModelFileError
from groundup.tokens import Tokenizer, load_foreign
from groundup.tokens.foreign_tiktoken import PATTERN_OF_SIZE, read_tiktoken
from groundup.tokens.patterns import PATTERNS
from tests.tokens.foreign_files import ranks_of, tiktoken_file

RELAXED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def file(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiktoken")
    return tiktoken_file(folder / "small.tiktoken", ranks_of(tokenizer_folder / "tokenizer.json"))


@RELAXED
@given(text=st.text() | st.text("It is a truth\n 12中'sS"))
def test_ids_are_those_of_the_trained_file_and_of_tiktoken(tokenizer: Tokenizer, file: Path, text: str) -> None:
    taken, _ = load_foreign(file, tokenizer.pattern)
    assert taken.decode(taken.encode(text)) == text
    assert taken.pattern == tokenizer.pattern
    tiktoken = pytest.importorskip("tiktoken")
    (expression,) = PATTERNS[tokenizer.pattern].expressions
    other = tiktoken.Encoding("small", pat_str=expression, mergeable_ranks=ranks_of_file(file), special_tokens={})
    assert taken.encode(text) == other.encode_ordinary(text)


def ranks_of_file(file: Path) -> dict[bytes, int]:
    from base64 import b64decode

    return {b64decode(line.split()[0]): int(line.split()[1]) for line in file.read_text().splitlines()}


def test_a_folder_or_another_name_is_found_by_content(file: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(file.read_bytes())
    tokenizer, done = load_foreign(tmp_path)
    assert done["format"] == "tiktoken"
    assert tokenizer.encode("It is") == load_foreign(file.parent)[0].encode("It is")


def test_a_well_known_size_has_its_own_pattern(tmp_path: Path) -> None:
    ranks = {bytes([byte]): byte for byte in range(256)}
    ranks |= {f"{i:06d}".encode(): i for i in range(256, 50_256)}
    draft = read_tiktoken(tiktoken_file(tmp_path / "r50k.tiktoken", ranks), "llama3")
    assert PATTERN_OF_SIZE[50_256] == "gpt2"
    assert draft.steps[0]["pattern"]["Regex"] == PATTERNS["gpt2"].expressions[0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("YQ== 0\nYQ== 1\n", "line 2: a token that was there"),
        ("YQ== 0\nYg== 0\n", "id 0 is used by"),
        ("YQ== 0\nYg== 2000000000\n", "2000000000"),
        ("YQ== 0\nnot a token\n", "line 2 is no token"),
        ("YQ== 0\nYQ 1\n", "line 2 is no token"),
        ("YQ== 0\nYg== x\n", "line 2 is no token"),
        ("YQ== 0\nYg== 5000\n", "dense"),
        ("YQ== 0\n" + "YWFh" * 1000 + " 1\n", "a token of 3000 bytes"),
    ],
)
def test_damaged_files_are_refused_with_the_line(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "bad.tiktoken").write_text(text)
    with pytest.raises(ModelFileError, match=reason):
        load_foreign(tmp_path / "bad.tiktoken")


def test_no_mutation_gets_past_with_another_error(file: Path, tmp_path: Path) -> None:
    good, random_numbers = file.read_bytes(), random.Random(1)
    for _ in range(40):
        bad = bytearray(good)
        at = random_numbers.randrange(len(bad))
        bad[at : at + random_numbers.randrange(3)] = random_numbers.randbytes(random_numbers.randrange(3))
        (tmp_path / "bad.tiktoken").write_bytes(bad)
        try:
            tokenizer, _ = load_foreign(tmp_path / "bad.tiktoken")
        except ModelFileError:
            continue
        assert tokenizer.decode(tokenizer.encode("It is a truth.")) == "It is a truth."
