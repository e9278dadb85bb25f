from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundup.errors import ModelFileError, first_line
from groundup.tokens import Tokenizer
from groundup.tokens.tokenizer_file import BYTE_ALPHABET, FILE_LIMIT_BYTES, TOKENIZER_FILE

Damage = Callable[[dict[str, Any]], object]


def damaged(folder: Path, target: Path, damage: Damage) -> Path:
    content = json.loads((folder / TOKENIZER_FILE).read_text(encoding="utf-8"))
    damage(content)
    (target / TOKENIZER_FILE).write_text(json.dumps(content), encoding="utf-8")
    return target


def added(content: str, index: object) -> dict[str, Any]:
    return {"id": index, "content": content, "special": True, "normalized": False}


FAULTS: dict[str, tuple[Damage, str]] = {
    "duplicate id": (lambda c: c["model"]["vocab"].update({"!!!!": 3}), "ids must be"),
    "control on a text id": (lambda c: c["added_tokens"][0].update(id=3), "id 3 is used by"),
    "huge id": (lambda c: c["model"]["vocab"].update({"!!!!": 2_000_000_000}), "2000000000"),
    "negative id": (lambda c: c["added_tokens"].append(added("<x>", -1)), "id -1"),
    "id is a float": (lambda c: c["added_tokens"].append(added("<x>", 400.0)), "400.0"),
    "id is a boolean": (lambda c: c["model"]["vocab"].update({"!": True}), "id True"),
    "gap": (lambda c: c["model"]["vocab"].pop("Ġt", None) or c["model"]["vocab"].pop("!"), "ids must be"),
    "endless expression": (
        lambda c: c.update(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated"}),
        "unknown pre-tokenizer",
    ),
    "no pre-tokenizer": (lambda c: c.update(pre_tokenizer=None), "unknown pre-tokenizer"),
    "normalizer": (lambda c: c.update(normalizer={"type": "NFC"}), "normalizer"),
    "not BPE": (lambda c: c["model"].update(type="WordLevel"), "not a BPE"),
    "WordPiece over bytes": (lambda c: c["model"].update(type="WordPiece"), "token for unknown words"),
    "no model": (lambda c: c.pop("model"), "not a BPE"),
    "unknown token": (lambda c: c["model"].update(unk_token="<unk>"), "unk_token"),
    "merge of unknown tokens": (lambda c: c["model"]["merges"].append(["Ω", "Ω"]), "merge"),
    "merge of three": (lambda c: c["model"]["merges"].insert(0, "a b c"), "merge 0"),
    "merges missing": (lambda c: c["model"].pop("merges"), "merges"),
    "not the byte alphabet": (
        lambda c: c["model"]["vocab"].update({"字": len(c["model"]["vocab"]) + len(c["added_tokens"])}),
        "byte-level",
    ),
    "control token twice": (lambda c: c["added_tokens"].append(c["added_tokens"][0]), "twice"),
    "control token without text": (lambda c: c["added_tokens"].append({"id": 5}), "without content"),
    "added tokens missing": (lambda c: c.pop("added_tokens"), "added_tokens"),
    "no end of turn": (lambda c: c["added_tokens"][-1].update(content="<|other|>"), "no control token <|"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_damaged_files_are_refused_with_the_reason(tokenizer_folder: Path, tmp_path: Path, name: str) -> None:
    damage, expected = FAULTS[name]
    with pytest.raises(ModelFileError) as caught:
        Tokenizer.load(damaged(tokenizer_folder, tmp_path, damage))
    assert expected in caught.value.message
    assert str(tmp_path / TOKENIZER_FILE) in caught.value.message
    assert "\n" not in first_line(caught.value)


def test_a_byte_without_token_is_refused(tokenizer_folder: Path, tmp_path: Path) -> None:
    def replace_a_byte(content: dict[str, Any]) -> None:
        vocab = content["model"]["vocab"]
        vocab["ÿÿÿÿ"] = vocab.pop(BYTE_ALPHABET[0xF5])

    with pytest.raises(ModelFileError, match="1 of 256 bytes have no token"):
        Tokenizer.load(damaged(tokenizer_folder, tmp_path, replace_a_byte))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"model": ' * 100_000, "\x00\x01", "3"])
def test_what_is_no_tokenizer_at_all_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / TOKENIZER_FILE).write_text(text)
    with pytest.raises(ModelFileError):
        Tokenizer.load(tmp_path)


def test_missing_and_oversized_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no tokenizer\.json here"):
        Tokenizer.load(tmp_path)
    with (tmp_path / TOKENIZER_FILE).open("wb") as handle:
        handle.truncate(FILE_LIMIT_BYTES + 1)
    with pytest.raises(ModelFileError, match="too large"):
        Tokenizer.load(tmp_path)


def test_no_mutation_of_a_file_gets_past_with_another_error(tokenizer_folder: Path, tmp_path: Path) -> None:
    good = (tokenizer_folder / TOKENIZER_FILE).read_bytes()
    random_numbers = random.Random(1)
    for _ in range(60):
        bad = bytearray(good)
        for _ in range(random_numbers.randrange(1, 4)):
            at = random_numbers.randrange(len(bad))
            bad[at : at + random_numbers.randrange(3)] = random_numbers.randbytes(random_numbers.randrange(3))
        (tmp_path / TOKENIZER_FILE).write_bytes(bad)
        try:
            tokenizer = Tokenizer.load(tmp_path)
        except ModelFileError:
            continue
        assert tokenizer.decode(tokenizer.encode("It is a truth.")) == "It is a truth."


def test_a_vocabulary_that_lists_its_control_tokens_keeps_them_out_of_text(
    tokenizer: Tokenizer, tokenizer_folder: Path, tmp_path: Path
) -> None:
    """Some tokenizers hold control tokens in the model's vocabulary as well."""

    def list_them(content: dict[str, Any]) -> None:
        content["model"]["vocab"].update({entry["content"]: entry["id"] for entry in content["added_tokens"]})

    other = Tokenizer.load(damaged(tokenizer_folder, tmp_path, list_them))
    text = "a <|end|> b<|endoftext|>"
    assert other.vocab_size == tokenizer.vocab_size
    assert other.encode(text) == tokenizer.encode(text)


def test_a_copied_folder_is_the_same_tokenizer(tokenizer_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tokenizer_folder, tmp_path / "copy")
    assert Tokenizer.load(tmp_path / "copy").encode("truth") == Tokenizer.load(tokenizer_folder).encode("truth")
