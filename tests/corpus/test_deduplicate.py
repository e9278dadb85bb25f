"""Signatures estimate Jaccard similarity; clusters do not depend on any order."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from groundup.corpus import deduplicate
from groundup.corpus.deduplicate import (
    KEPT,
    DeduplicateConfig,
    Signer,
    find_duplicates,
    normal_hash,
    shingle_hashes,
    similarity,
)
from groundup.corpus.documents import hash_text

WORDS = [f"word{i}" for i in range(500)]


def jaccard(one, other, size=5):
    one, other = (set(shingle_hashes(text, size).tolist()) for text in (one, other))
    return len(one & other) / len(one | other)


def find(texts, priority=None, **options):
    config = DeduplicateConfig(**options)
    signer = Signer(config)
    counts = np.array([signer.add(text) for text in texts])
    hashes = [
        np.frombuffer(b"".join(map(f, texts)), ">u8").reshape(-1, 2)
        for f in (normal_hash, lambda t: hash_text(t.encode()))
    ]
    exact, content = (h.astype(np.uint64) for h in hashes)
    ranks = np.array(priority if priority is not None else [3] * len(texts), dtype=np.uint8)
    return find_duplicates(exact, content, ranks, signer.take() if config.near else None, counts > 0, config)


def variant(text, rng, changes):
    words = text.split()
    for _ in range(changes):
        words[rng.randrange(len(words))] = rng.choice(WORDS)
    return " ".join(words)


def test_signatures_estimate_jaccard_similarity():
    rng = random.Random(0)
    errors = []
    for changes in (0, 2, 5, 10, 20):
        for _ in range(8):
            text = " ".join(rng.choices(WORDS, k=300))
            other = variant(text, rng, changes)
            signer = Signer(DeduplicateConfig())
            signer.add(text)
            signer.add(other)
            errors.append(similarity(signer.take(), 0, 1) - jaccard(text, other))
    assert abs(np.mean(errors)) < 0.015  # 40 pairs of standard error below 0.046
    assert np.abs(errors).max() < 0.16


@given(st.lists(st.text(alphabet="aB é\t\n\u3000", max_size=30)), st.integers(1, 7))
def test_normal_form_ignores_case_space_and_slices(pieces, slice_characters):
    text = " ".join(pieces)
    expected = normal_hash(text)
    assert normal_hash("\n" + text.upper().replace(" ", " \t ") + " ") == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deduplicate, "_SLICE_CHARACTERS", slice_characters)
        assert normal_hash(text) == expected


def test_normal_form_keeps_word_borders_and_composes():
    assert normal_hash("now here") != normal_hash("nowhere")
    assert normal_hash("e\u0301") == normal_hash("\u00e9")


def test_ascii_and_unicode_tokens_agree():
    plain = shingle_hashes("It's  Word_1, and\x1cmore", 2).tolist()
    assert shingle_hashes("It's  Word_1, and more é", 2).tolist()[: len(plain)] == plain
    assert len(shingle_hashes("床前明月光", 5)) == 1
    assert len(shingle_hashes("床前明月光疑是地上霜", 5)) == 6
    assert len(shingle_hashes("one two", 5)) == 1
    assert len(shingle_hashes("... !!!", 5)) == 0


def test_exact_and_near_duplicates_are_told_apart():
    rng = random.Random(1)
    text, unlike = (" ".join(rng.choices(WORDS, k=400)) for _ in range(2))
    near = variant(text, rng, 2)
    result = find([text, unlike, text.upper(), near, near, unlike])
    assert np.bincount(result.outcome).tolist() == [2, 3, 1]
    assert np.bincount(find([text, near, text], near=False).outcome).tolist() == [2, 1]


def test_chinese_near_duplicates_are_found():
    text = "".join(chr(0x4E00 + (i * i * 31) % 2000) for i in range(300))
    other = "".join(chr(0x4E00 + (i * i * 37) % 2000) for i in range(300))
    assert np.bincount(find([text, text[:-3] + "新年好", other]).outcome).tolist() == [2, 0, 1]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_the_kept_texts_do_not_depend_on_the_order(seed):
    rng = random.Random(seed)
    originals = [" ".join(rng.choices(WORDS, k=60)) for _ in range(4)]
    texts = [variant(text, rng, changes) for text in originals for changes in (0, 1, 1, 2, 30)] + originals
    kept = None
    for _ in range(3):
        rng.shuffle(texts)
        result = find(texts)
        now = {texts[i] for i in np.flatnonzero(result.outcome == KEPT)}
        assert kept in (None, now)
        kept = now
        assert all(result.outcome[i] == KEPT for i in result.kept)
        assert (result.kept[result.outcome == KEPT] == np.flatnonzero(result.outcome == KEPT)).all()


def test_the_forced_side_wins():
    rng = random.Random(3)
    text = " ".join(rng.choices(WORDS, k=400))
    texts = [text, variant(text, rng, 1), variant(text, rng, 1), text]
    for forced in range(4):
        priority = [3] * 4
        priority[forced] = 0
        result = find(texts, priority)
        assert np.flatnonzero(result.outcome == KEPT).tolist() == [forced]
        assert set(result.kept.tolist()) == {forced}


def test_texts_without_words_are_no_near_duplicates():
    assert np.bincount(find(["...", "!!!", "?!"]).outcome).tolist() == [3]
    assert find([]).outcome.tolist() == []


def test_huge_buckets_are_bounded_and_said(monkeypatch):
    monkeypatch.setattr(deduplicate, "_ROUNDS_LIMIT", 5)
    rng = np.random.default_rng(0)
    signatures = rng.integers(0, 2**32, (40, 120), dtype=np.uint32)
    signatures[:, :6] = 1  # one band in common, nothing else
    hashes = rng.integers(0, 2**64, (40, 2), dtype=np.uint64)
    none, some = np.zeros(40, dtype=np.uint8), np.ones(40, dtype=bool)
    result = find_duplicates(hashes, hashes, none, signatures, some, DeduplicateConfig())
    assert (result.outcome == KEPT).all()
    assert result.unchecked == 34


def test_the_stated_chance_to_be_compared():
    config = DeduplicateConfig(num_perm=120, bands=20)
    assert config.chance_compared(0.8) == pytest.approx(0.9977, abs=1e-4)
    assert config.chance_compared(0.3) < 0.02
    with pytest.raises(ValidationError, match="bands must divide"):
        DeduplicateConfig(num_perm=128, bands=20)
