"""WordPiece as BERT has it: the ids of transformers, words found by it, and never a control token from text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundup.errors import ModelFileError
from groundup.tokens import CONTROL_TOKENS, ENCODER_TOKENS, Tokenizer, WordStarts, load_foreign, take_in
from tests.tokens.wordpieces import VOCAB, write_vocab

CASES: dict[str, dict[str, Any]] = {
    "uncased": {},
    "cased": {"do_lower_case": False},
    "accents kept": {"do_lower_case": True, "strip_accents": False},
    "chinese words": {"tokenize_chinese_chars": False},
}
ENCODER = (*CONTROL_TOKENS, *ENCODER_TOKENS)
TEXTS = [
    "The river bank of Zürich, is long!",
    "北京大学 is swimming",
    "Zurich-é é 12 qqq",
    "  ",
    "a\u0300 x\x00y\u200b",
    "",
]
ANY = st.lists(st.sampled_from([*TEXTS, *VOCAB[6:], "[UNK] ", "\n", "中文"]) | st.text(max_size=8)).map(" ".join)
RELAXED = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", params=CASES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vocab(tmp_path_factory.mktemp("bert"), **CASES[request.param])


@pytest.fixture(scope="module")
def taken(folder: Path) -> Tokenizer:
    (folder / "taken").mkdir(exist_ok=True)
    take_in(folder, "llama3", folder / "taken", ENCODER)
    return Tokenizer.load(folder / "taken")


def test_transformers_gives_the_same_ids_before_and_after(folder: Path, taken: Tokenizer) -> None:
    transformers = pytest.importorskip("transformers")
    before = transformers.BertTokenizer.from_pretrained(folder)
    after = transformers.AutoTokenizer.from_pretrained(folder / "taken")
    for text in (*TEXTS, " ".join(TEXTS) * 3):
        found = taken.encode(text)
        assert before(text, add_special_tokens=False)["input_ids"] == found
        assert after(text, add_special_tokens=False)["input_ids"] == found
    ids = taken.need_encoder_ids()
    pair = after("the river", "bank")
    assert pair["input_ids"] == [ids.cls, *taken.encode("the river"), ids.sep, *taken.encode("bank"), ids.sep]
    assert (after.unk_token, after.mask_token, after.vocab_size) == ("[UNK]", "[MASK]", taken.vocab_size)


@RELAXED
@given(text=ANY)
def test_no_text_becomes_a_control_token_but_unknown(taken: Tokenizer, text: str) -> None:
    ids, places = taken.encode_with_places(text)
    assert taken.encode(text) == ids
    assert taken.control_ids & set(ids) <= {taken.unknown_id}
    assert len(places) == len(ids)
    assert all(0 <= start <= end <= len(text) for start, end in places)
    assert places == sorted(places), "tokens come in the order of the text"


def test_places_are_those_of_the_text_that_was_given(taken: Tokenizer) -> None:
    text = "The long, long river of swimming 北京!"
    _, places = taken.encode_with_places(text)
    shown = [text[start:end] for start, end in places]
    assert "".join(shown) == text.replace(" ", "")
    assert {"river", "swim", "ming"} <= set(shown)


def test_it_says_what_it_is(taken: Tokenizer) -> None:
    assert not taken.lossless
    assert taken.unknown_id == VOCAB.index("[UNK]")
    assert taken.decode(taken.encode("river bank . swimming")) == " river bank . swimming"


def test_words_begin_where_the_vocabulary_says_so(tmp_path: Path) -> None:
    tokenizer = load_foreign(write_vocab(tmp_path), control=ENCODER)[0]
    starts = WordStarts(tokenizer, tokenizer.continuing_ids)
    ids = tokenizer.need_encoder_ids()
    tokens = np.array([ids.cls, *tokenizer.encode("The zurich1 北京 swimming!"), ids.sep, ids.pad])
    texts = [tokenizer.token_bytes(int(token)).decode().strip() for token in tokens]
    begun = [text for text, start in zip(texts, starts.of(tokens)) if start]
    assert begun == ["the", "zurich", "北", "京", "swim", "!"]
    assert "ming" in texts and "1" in texts
    assert not starts.ordinary[tokenizer.unknown_id or 0], "unknown words are neither hidden nor put in another's place"


def test_a_model_that_writes_cannot_have_it(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="a decoder or LSTM could not write it"):
        take_in(write_vocab(tmp_path), "llama3", tmp_path)


def _tokenizer_json(folder: Path) -> dict[str, Any]:
    write_vocab(folder)
    (folder / "taken").mkdir()
    take_in(folder, "llama3", folder / "taken", ENCODER)
    content: dict[str, Any] = json.loads((folder / "taken" / "tokenizer.json").read_text())
    return content


def test_settings_for_batches_are_left_out(tmp_path: Path) -> None:
    content = _tokenizer_json(tmp_path)
    content["truncation"] = {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    tokenizer = Tokenizer.load(tmp_path)
    assert len(tokenizer.encode("the river bank of zurich")) == 5
    assert json.loads(tokenizer.file.text)["truncation"] is None


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"normalizer": {"type": "Replace", "pattern": {"Regex": "a+"}, "content": ""}}, "normalizer .* is not known"),
        ({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+"}}}, "pre_tokenizer .* is not known"),
        ({"pre_tokenizer": None}, "no pre_tokenizer"),
    ],
)
def test_steps_that_are_not_known_are_refused(tmp_path: Path, change: dict[str, Any], fault: str) -> None:
    content = {**_tokenizer_json(tmp_path), **change}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ModelFileError, match=fault):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("vocab", "fault"),
    [
        ("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\na\n", "'a' twice"),
        ("[PAD]\n[UNK]\n\n[CLS]\n", "line 3 is an empty line"),
        ("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n", r"no token \[MASK\]"),
        ("a\nb\n", "unknown words"),
    ],
)
def test_vocabularies_that_cannot_be_are_refused(tmp_path: Path, vocab: str, fault: str) -> None:
    (tmp_path / "vocab.txt").write_text(vocab)
    with pytest.raises(ModelFileError, match=fault):
        load_foreign(tmp_path, control=ENCODER)
