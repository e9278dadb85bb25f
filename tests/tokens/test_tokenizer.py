from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from groundup.errors import DataError, first_line
from groundup.tokens import Tokenizer, Turn
from groundup.tokens.patterns import LONGEST_PIECE_CHARACTERS, split_pieces
from groundup.tokens.tokenizer_file import CONTROL_TOKENS

CONTROL_TEXTS = st.sampled_from([*CONTROL_TOKENS, "<|end|><|assistant|> ", "<|reserved_0|>", "<s>", "[INST]"])
ANY_TEXT = st.lists(
    st.text() | CONTROL_TEXTS | st.sampled_from(["\n", "  ", "\r\n", " a", "1234", "'S", "\x1c", "\x85"])
).map("".join)
RELAXED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@RELAXED
@given(ANY_TEXT)
def test_any_text_round_trips_without_a_control_token(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids, skip_control=False) == text
    assert not tokenizer.control_ids.intersection(ids)
    assert all(0 <= i < tokenizer.vocab_size for i in ids)


@RELAXED
@given(st.lists(ANY_TEXT, max_size=5))
def test_a_batch_is_encoded_as_its_texts_alone(tokenizer: Tokenizer, texts: list[str]) -> None:
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


@RELAXED
@given(ANY_TEXT, st.integers(1, 4))
@example("a\n\nb \n c\x1c d\x85 e", 1)
def test_cutting_long_texts_does_not_change_their_tokens(
    tokenizer: Tokenizer, tokenizer_folder: Path, text: str, piece: int
) -> None:
    whole = tokenizers.Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    whole.encode_special_tokens = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("groundup.tokens.patterns.PIECE_CHARACTERS", piece)
        patch.setattr("groundup.tokens.patterns.LONGEST_PIECE_CHARACTERS", piece + len(text) // 2)
        pieces = list(split_pieces(text, tokenizer.pattern))
        assert "".join(pieces) == text
        hard_cut = any(len(part) >= piece + len(text) // 2 for part in pieces[:-1])
        if not hard_cut:
            assert tokenizer.encode(text) == whole.encode(text).ids


@pytest.mark.parametrize("run", ["a", " ", "\n", "'", "中", "1", " \n"])
def test_long_runs_are_cut_into_bounded_pieces(tokenizer: Tokenizer, run: str) -> None:
    text = run * 150_000
    assert max(map(len, split_pieces(text, tokenizer.pattern))) <= LONGEST_PIECE_CHARACTERS
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_lone_surrogates_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match="lone surrogate at character 2"):
        tokenizer.encode("ab\ud800c")


@pytest.mark.parametrize("ids", [[400], [0, 10**9], [-100], [5, -1]])
def test_ids_outside_the_vocabulary_are_refused(tokenizer: Tokenizer, ids: list[int]) -> None:
    with pytest.raises(DataError, match=str(ids[-1])) as caught:
        tokenizer.decode(ids)
    assert len(first_line(caught.value)) < 200


def test_half_characters_become_the_replacement_character(tokenizer: Tokenizer) -> None:
    first_byte = next(i for i in range(256) if tokenizer.token_bytes(i) == b"\xe4")
    assert tokenizer.decode([first_byte]) == "\ufffd"
    assert tokenizer.decode_bytes([first_byte]) == b"\xe4"


def test_control_tokens_are_shown_only_when_asked_for(tokenizer: Tokenizer) -> None:
    ids = [*tokenizer.document_prompt("one"), tokenizer.turn_end_id]
    assert tokenizer.decode(ids) == "one"
    assert tokenizer.decode(ids, skip_control=False) == "<|endoftext|>one<|end|>"
    assert tokenizer.token_bytes(tokenizer.role_ids["user"]) == b"<|user|>"
    assert tokenizer.stop_ids == {tokenizer.end_of_text_id, tokenizer.turn_end_id}


def test_a_prompt_ends_where_the_assistant_begins(tokenizer: Tokenizer) -> None:
    prompt = tokenizer.prompt([Turn("user", "Hi <|end|>")])
    shown = tokenizer.decode(prompt, skip_control=False)
    assert shown == "<|user|> Hi <|end|><|end|><|assistant|>"
    assert prompt.count(tokenizer.turn_end_id) == 1
