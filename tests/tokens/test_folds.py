"""Conversations in folds: each in one, alike ones together, targets unchanged, the same bytes again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundup.tokens import Encoded, PackedConversations, Tokenizer, Turn, examples_of, write_conversations, write_folds
from groundup.tokens import folds as module
from groundup.tokens.folds import fold_of, prompt_of
from groundup.tokens.foreign import load_foreign
from tests.tokens.chat_templates import write_folder

RELAXED = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SAID = st.text(max_size=12).map(lambda text: text.strip() or "x")


@dataclass
class Talk:
    turns: list[Turn]


def packed(tokenizer: Tokenizer, folder: Path, said: list[tuple[str, str]]) -> PackedConversations:
    talks = [Talk([Turn("user", question), Turn("assistant", answer)]) for question, answer in said]
    write_conversations(talks, tokenizer, folder, 64)
    return PackedConversations(folder, "talks", 64)


def examples(folder: Path) -> list[Encoded]:
    if not folder.exists():
        return []
    rows = PackedConversations(folder, "talks", 64)
    return [example for index in range(rows.num_rows) for example in examples_of(rows.row(index))]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@RELAXED
@given(st.lists(st.tuples(SAID, SAID), min_size=1, max_size=25), st.integers(2, 4))
def test_folds_are_disjoint_and_cover_everything(
    tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory, said: list[tuple[str, str]], folds: int
) -> None:
    folder = tmp_path_factory.mktemp("folds")
    rows = packed(tokenizer, folder / "all", said)
    counts = write_folds(rows, tokenizer, folder / "folds", folds)
    found = [examples(folder / "folds" / str(fold)) for fold in range(folds)]
    assert [len(each) for each in found] == counts and len(counts) == folds
    assert sorted(example for each in found for example in each) == sorted(examples(folder / "all"))
    prompts = [{prompt_of(example, tokenizer) for example in each} for each in found]
    assert all(not one & other for i, one in enumerate(prompts) for other in prompts[:i])


def test_prompts_that_are_nearly_the_same_are_in_one_fold() -> None:
    alike = ["What is the capital of France?", "what is the capital of  FRANCE", "What is the capital of Ｆrance?!"]
    assert len({fold_of(prompt, 1000) for prompt in alike}) == 1
    assert len({fold_of(f"What is the capital of {name}?", 1000) for name in ("France", "Peru", "Fiji")}) > 1
    assert len({fold_of(prompt, 1000) for prompt in ("???", "!!!", "...")}) > 1, "what has no letter is told apart too"


def test_a_conversation_of_several_examples_is_in_one_fold(tmp_path: Path) -> None:
    """Qwen3 leaves out old thoughts, so its template needs an example for each answer, all with another prompt."""
    tokenizer, _ = load_foreign(write_folder(tmp_path / "model", "thinking"), chat_template="auto")
    said = [(role, word) for word in ("first", "second", "third") for role in ("user", "assistant")]
    talks = [Talk([Turn(role, f"{word} {number}") for role, word in said]) for number in range(12)]
    talks += [Talk([Turn("user", f"First {number}!"), Turn("assistant", "another answer")]) for number in range(12)]
    write_conversations(talks, tokenizer, tmp_path / "all", 512)
    rows = PackedConversations(tmp_path / "all", "talks", 512)
    counts = write_folds(rows, tokenizer, tmp_path / "folds", 3)
    assert sum(counts) == 12 * 3 + 12 and min(counts) > 0
    folds_of: dict[str, set[int]] = {}
    for fold in range(3):
        held = PackedConversations(tmp_path / "folds" / str(fold), "talks", 512)
        for example in (each for index in range(held.num_rows) for each in examples_of(held.row(index))):
            beginning = tokenizer.decode(example.ids, skip_control=False).split("<|im_end|>")[0].lower().rstrip("!")
            folds_of.setdefault(beginning, set()).add(fold)
    assert len(folds_of) == 12 and all(len(folds) == 1 for folds in folds_of.values())


def test_a_search_that_goes_on_finds_the_same_folds(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FOLD_LOOK_AHEAD_TOKENS", 150)
    rows = packed(tokenizer, tmp_path / "all", [(f"Question {i}?", f"Answer {i}.") for i in range(60)])
    once = write_folds(rows, tokenizer, tmp_path / "one", 3)
    before = contents(tmp_path / "one")
    assert sum("rows-" in name for name in before) > 3, "several files a fold"
    (tmp_path / "one" / "folds.json").unlink()
    assert (
        write_folds(rows, tokenizer, tmp_path / "one", 3) == once == write_folds(rows, tokenizer, tmp_path / "two", 3)
    )
    assert contents(tmp_path / "one") == before == contents(tmp_path / "two")
    assert sum(once) == 60 and min(once) > 10
    assert write_folds(rows, tokenizer, tmp_path / "two", 3) == once
