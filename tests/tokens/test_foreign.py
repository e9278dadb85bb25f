"""Tokenizers of others, taken in: same ids, text comes back and never becomes control, nothing of theirs is run."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundup.errors import ModelFileError, RecipeError, first_line
from groundup.tokens import (
    ENCODER_TOKENS,
    Tokenizer,
    TokenizerConfig,
    Turn,
    load_foreign,
    require_tokenizer,
    take_in,
    tokenizer_identity,
)
from groundup.tokens.tokenizer_file import CONTROL_TOKENS, FILE_LIMIT_BYTES
from tests.tokens import foreign_files
from tests.tokens.conftest import AUSTEN, TEXTS

Maker = Callable[[Path], Path]
MAKERS: dict[str, Maker] = {
    "qwen": foreign_files.qwen,
    "unknown expression": lambda path: foreign_files.qwen(path, foreign_files.KIMI),
    "gpt2": foreign_files.gpt2,
    "llama2": foreign_files.llama2,
    "llama2 without bytes": lambda path: foreign_files.llama2(path, byte_fallback=False),
    "t5": foreign_files.t5,
}
RELAXED = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ODD = st.sampled_from(
    ["▁", " ▁ ", "<0x41>", "</s>", "<unk>", "<|im_end|>", "<tool_call>", "<|end|>", "\x00", "  ", "\n\n", "😀"]
)
ANY_TEXT = st.lists(st.text() | ODD | st.text("It is a truth中")).map("".join)


@pytest.fixture(scope="module", params=MAKERS)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MAKERS[request.param](tmp_path_factory.mktemp("foreign") / "tokenizer.json")


@pytest.fixture(scope="module")
def taken(file: Path) -> Tokenizer:
    folder = file.parent / "taken"
    folder.mkdir()
    take_in(file, "llama3", folder)
    return Tokenizer.load(folder)


@RELAXED
@given(text=ANY_TEXT)
def test_any_text_comes_back_without_a_control_token(taken: Tokenizer, text: str) -> None:
    ids = taken.encode(text)
    assert taken.decode(ids, skip_control=False) == text
    assert not taken.control_ids.intersection(ids)
    assert taken.encode_batch([text, text]) == [ids, ids]


@RELAXED
@given(text=st.lists(st.sampled_from([*AUSTEN.split(" "), "12345", "naïve", "中文"]), min_size=1).map(" ".join))
def test_ordinary_text_gets_the_ids_that_the_file_gives_it(file: Path, taken: Tokenizer, text: str) -> None:
    original = tokenizers.Tokenizer.from_file(str(file))
    unknown = original.token_to_id("<unk>")
    expected = original.encode(text, add_special_tokens=False).ids
    # Those with a token for unknown text are sentencepiece's kind, which puts a space before the text.
    found = taken.encode(text if unknown is None else f" {text}")
    if unknown not in expected:
        assert found == expected


def test_word_by_word_gives_the_same_ids(taken: Tokenizer, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = taken.encode_batch(TEXTS)
    monkeypatch.setattr("groundup.tokens.tokenizer.WORD_BY_WORD_FROM_CHARACTERS", 0)
    assert load_foreign(file)[0].encode_batch(TEXTS) == expected


def test_the_same_ids_from_transformers(taken: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    taken.save(tmp_path)
    other = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    assert len(other) == taken.vocab_size
    for text in [*TEXTS[:4], " two  spaces\n\n▁ <tool_call> Größe\x00 😀"]:
        assert other(text, add_special_tokens=False)["input_ids"] == taken.encode(text)
        assert other.decode(taken.encode(text)) == text
    prompt = other.apply_chat_template([{"role": "user", "content": "Hi"}], add_generation_prompt=True, tokenize=False)
    assert other(prompt, add_special_tokens=False)["input_ids"] == taken.prompt([Turn("user", "Hi")])


def test_control_tokens_are_found_renamed_or_added(tmp_path: Path) -> None:
    tokenizer, done = load_foreign(foreign_files.qwen(tmp_path / "tokenizer.json"))
    original = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    names = ["<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
    assert done["control"] == dict(zip(names, ["<|endoftext|>", "", "", "", "<|im_end|>"]))
    assert tokenizer.end_of_text_id == original.token_to_id("<|endoftext|>")
    assert tokenizer.turn_end_id == original.token_to_id("<|im_end|>")
    assert sorted(tokenizer.role_ids.values()) == [*range(original.get_vocab_size(), original.get_vocab_size() + 3)]
    assert tokenizer.token_bytes(original.token_to_id("<tool_call>")) == b"<tool_call>"
    assert original.token_to_id("<tool_call>") in tokenizer.encode("a <tool_call> b"), "its file says that it is text"
    assert done["left_out"] == ["normalizer NFC"]
    assert tokenizer.pattern == "qwen2"


def test_spare_tokens_are_used_before_new_ones(tmp_path: Path) -> None:
    path = foreign_files.qwen(tmp_path / "tokenizer.json")
    content = json.loads(path.read_text(encoding="utf-8"))
    first = max(entry["id"] for entry in content["added_tokens"]) + 1
    content["added_tokens"] += [
        {"id": first + i, "content": f"<|reserved_special_token_{i}|>", "special": True} for i in range(4)
    ]
    path.write_text(json.dumps(content), encoding="utf-8")
    tokenizer, done = load_foreign(path)
    assert tokenizer.vocab_size == first + 4
    assert list(tokenizer.role_ids.values()) == [first, first + 1, first + 2]
    assert done["control"]["<|user|>"] == "<|reserved_special_token_1|>"


def test_ids_that_are_missing_become_spare_tokens(tmp_path: Path) -> None:
    path = foreign_files.qwen(tmp_path / "tokenizer.json")
    content = json.loads(path.read_text(encoding="utf-8"))
    content["added_tokens"][-1]["id"] += 7
    path.write_text(json.dumps(content), encoding="utf-8")
    tokenizer, _ = load_foreign(path)
    original = max(entry["id"] for entry in content["added_tokens"])
    assert tokenizer.vocab_size == original + 1, "the roles take three of them"
    assert len(tokenizer.control_ids) == 3 + 7


def test_an_encoders_texts_and_pairs_are_framed_for_others_too(tmp_path: Path) -> None:
    """Whoever reads the file alone gets [CLS] and [SEP], and which text of a pair each token is of."""
    tokenizer, _ = load_foreign(foreign_files.gpt2(tmp_path / "x.json"), control=(*CONTROL_TOKENS, *ENCODER_TOKENS))
    tokenizer.save(tmp_path)
    ids = tokenizer.need_encoder_ids()
    found = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode("the sea", "and")
    first, second = [ids.cls, *tokenizer.encode("the sea"), ids.sep], [*tokenizer.encode("and"), ids.sep]
    assert (found.ids, found.type_ids) == (first + second, [0] * len(first) + [1] * len(second))


def test_a_folder_with_the_older_pair_of_files(tmp_path: Path) -> None:
    content = json.loads(foreign_files.gpt2(tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    folder = tmp_path / "older"
    folder.mkdir()
    model = content["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    merges = "\n".join(" ".join(pair) for pair in model["merges"])
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    tokenizer, done = load_foreign(folder)
    assert done["format"] == "vocab.json and merges.txt"
    assert tokenizer.pattern == "gpt2"
    assert tokenizer.end_of_text_id == model["vocab"]["<|endoftext|>"], "no merge makes it, so it is no text"
    original = tokenizers.Tokenizer.from_str(
        json.dumps({**content, "pre_tokenizer": {**BYTE_LEVEL}, "added_tokens": []})
    )
    for text in TEXTS:
        assert tokenizer.encode(text) == original.encode(text, add_special_tokens=False).ids
    settings = {"tokenizer_class": "Qwen2TokenizerFast", "added_tokens_decoder": {"390": {"content": "<|im_end|>"}}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer, done = load_foreign(folder)
    assert (tokenizer.pattern, tokenizer.turn_end_id) == ("qwen2", 390)
    (folder / "merges.txt").unlink()
    with pytest.raises(ModelFileError, match=r"merges\.txt"):
        load_foreign(folder)


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
LETTERS = {chr(97 + i): i for i in range(26)}


def hostile(**changes: Any) -> dict[str, Any]:
    """The shape of the files in the project's collection of hostile tokenizers."""
    model = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": LETTERS, "merges": [],
    }  # fmt: skip
    base = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None}
    return {**base, "pre_tokenizer": None, "post_processor": None, "decoder": None, "model": model, **changes}


def model(**changes: Any) -> dict[str, Any]:
    return {**hostile()["model"], **changes}


SPLIT = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "endless expression": (hostile(pre_tokenizer=SPLIT), "repeats a group without end"),
    "an id twice": (hostile(added_tokens=[{"id": 3, "content": "<|x|>", "special": True}]), "id 3 is used by"),
    "two thousand million": (hostile(model=model(vocab={"a": 0, "b": 1, "zzz": 2_000_000_000})), "2000000000"),
    "a million without tokens": (hostile(model=model(vocab={"a": 0, "b": 1_000_000})), "dense"),
    "a text with two ids": (hostile(added_tokens=[{"id": 30, "content": "a", "special": True}]), "ids 0 and 30"),
    "no ids": (hostile(model=model(vocab={"a": "0"})), "id 0"),
    "negative": (hostile(model=model(vocab={"a": -1})), "id -1"),
    "empty": (hostile(model=model(vocab={})), "dense"),
    "WordPiece": (hostile(model=model(type="WordPiece")), "WordPiece"),
    "no model": (hostile(model=None), "does not come back"),
    "merges of nothing": (hostile(model=model(merges=[["a", "zz"]])), "merge 0"),
    "merges of three": (hostile(model=model(merges=["a b c"])), "merge 0"),
    "suffix": (hostile(model=model(end_of_word_suffix="</w>")), "end_of_word_suffix"),
    "added without content": (hostile(added_tokens=[{"id": 30}]), "without content"),
    "scores that are none": (hostile(model={"type": "Unigram", "vocab": [["a", "x"]]}), "scores"),
    "scores beyond": (hostile(model={"type": "Unigram", "vocab": [["a", 10**400]]}), "scores"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    content, reason = HOSTILE[name]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    started = time.monotonic()
    with pytest.raises(ModelFileError, match=reason) as caught:
        load_foreign(tmp_path)
    assert time.monotonic() - started < 5
    assert len(first_line(caught.value)) <= 200


def test_a_small_vocabulary_gets_tokens_for_all_bytes(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(hostile()), encoding="utf-8")
    tokenizer, _ = load_foreign(tmp_path)
    assert tokenizer.vocab_size == 26 + 256 + len(CONTROL_TOKENS)
    assert tokenizer.decode(tokenizer.encode("abc Größe <0x41> <|end|>")) == "abc Größe <0x41> <|end|>"
    assert tokenizer.encode("abc") == [0, 1, 2]


def test_a_chat_template_beside_it_runs_nothing(tmp_path: Path) -> None:
    foreign_files.qwen(tmp_path / "tokenizer.json")
    template = f"{{{{ cycler.__init__.__globals__.os.system('touch {tmp_path}/MARKER') }}}}"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    (tmp_path / "tokenizer.py").write_text(f"open('{tmp_path}/MARKER', 'w')")
    taken = tmp_path / "taken"
    taken.mkdir()
    with pytest.raises(ModelFileError, match="chat template cannot be used: SecurityError"):
        take_in(tmp_path, "llama3", taken)
    take_in(tmp_path, "llama3", taken, chat_template="own")
    assert "cycler" not in "".join(path.read_text(encoding="utf-8") for path in taken.iterdir())
    assert not (tmp_path / "MARKER").exists()
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ModelFileError, match="no tokenizer here"):
        load_foreign(tmp_path)


def test_no_mutation_of_a_file_gets_past_with_another_error(file: Path, tmp_path: Path) -> None:
    good = file.read_bytes()
    random_numbers = random.Random(1)
    for _ in range(15):
        bad = bytearray(good)
        for _ in range(random_numbers.randrange(1, 4)):
            at = random_numbers.randrange(len(bad))
            bad[at : at + random_numbers.randrange(3)] = random_numbers.randbytes(random_numbers.randrange(3))
        (tmp_path / "tokenizer.json").write_bytes(bad)
        try:
            tokenizer, _ = load_foreign(tmp_path)
        except ModelFileError:
            continue
        assert tokenizer.decode(tokenizer.encode("It is a truth.")) == "It is a truth."


@pytest.mark.parametrize("name", ["tokenizer.json", "x.tiktoken", "x.model", "vocab.json"])
def test_too_large_and_missing_files_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelFileError, match="no tokenizer here"):
        load_foreign(tmp_path / name)
    with (tmp_path / name).open("wb") as handle:
        handle.write(b"YQ== 0\n")
        handle.truncate(FILE_LIMIT_BYTES + 1)
    with pytest.raises(ModelFileError, match="too large"):
        load_foreign(tmp_path / name)


def test_the_content_of_the_file_is_the_identity_not_its_path(tmp_path: Path) -> None:
    path = foreign_files.gpt2(tmp_path / "tokenizer.json")
    shutil.copytree(tmp_path, tmp_path / "copy")
    here = tokenizer_identity(TokenizerConfig(path=str(path)))
    assert here == tokenizer_identity(TokenizerConfig(path=str(tmp_path / "copy"), vocab_size=999))
    foreign_files.qwen(path)
    assert here != tokenizer_identity(TokenizerConfig(path=str(path)))


def test_what_is_missing_is_said_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for config in (TokenizerConfig(path="nowhere"), TokenizerConfig(compare=("nowhere",))):
        with pytest.raises(ModelFileError, match="nowhere: no tokenizer here"):
            require_tokenizer(config)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"pip install 'groundup\[unigram\]'"):
        require_tokenizer(TokenizerConfig(model="unigram"))
    require_tokenizer(TokenizerConfig())
