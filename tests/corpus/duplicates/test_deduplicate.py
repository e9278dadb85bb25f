"""Clusters are those of exact Jaccard similarity, whatever the order, the parts, the memory and the workers."""

import itertools
import os
import random
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.corpus import segments
from groundup.corpus.duplicates import near, runs, steps
from groundup.corpus.duplicates.deduplicate import EXACT, KEPT, NEAR, find_duplicates
from groundup.corpus.duplicates.shingles import jaccard, shingle_set, token_hashes
from groundup.corpus.duplicates.signatures import DeduplicateConfig
from tests.corpus.made_duplicates import outcomes, segments_of, sentence, variant

CONFIG = DeduplicateConfig()


def find(texts, folder, config=CONFIG, **options):
    return outcomes([texts], folder, config, **options)


def exact_clusters(texts, threshold=0.8, size=5):
    """Connected components of all pairs, by sets of texts."""
    sets = [shingle_set(token_hashes(text), size) for text in texts]
    cluster = list(range(len(texts)))
    for i, j in itertools.combinations(range(len(texts)), 2):
        if cluster[i] != cluster[j] and (jaccard(sets[i], sets[j]) >= threshold or texts[i] == texts[j]):
            cluster = [cluster[i] if c == cluster[j] else c for c in cluster]
    return {frozenset(t for t, c in zip(texts, cluster) if c == wanted) for wanted in cluster}


def clusters(texts, kept):
    return {frozenset(t for t, k in zip(texts, kept) if k == wanted) for wanted in kept}


def family(rng, originals=4):
    """Texts with near-duplicates of several distances, in a random order."""
    texts = [sentence(rng) for _ in range(originals)]
    texts += [variant(text, rng, changes) for text in texts for changes in (0, 1, 1, 2, 30)]
    rng.shuffle(texts)
    return texts


def test_exact_and_near_duplicates_are_told_apart(tmp_path):
    rng = random.Random(1)
    text, unlike = sentence(rng, 400), sentence(rng, 400)
    close = variant(text, rng, 2)
    found, outcome, kept = find([text, unlike, text.upper(), close, close, unlike], tmp_path / "a")
    assert np.bincount(outcome).tolist() == [2, 3, 1]
    assert (found.clusters, found.largest_cluster, found.cluster_sizes) == (2, 4, {"2": 1, "3-4": 1})
    assert len(set(kept)) == 2
    _, outcome, _ = find([text, close, text], tmp_path / "b", DeduplicateConfig(near=False))
    assert outcome == [KEPT, KEPT, EXACT]


def test_clusters_by_kind_hold_the_duplicates_that_are_dropped(tmp_path):
    texts = family(random.Random(3))
    found, outcome, _ = find([*texts, texts[0], texts[0].upper()], tmp_path)
    assert found.counted == {"exact": outcome.count(EXACT), "near": outcome.count(NEAR)}
    assert found.counted["exact"] >= 6
    (sizes,) = found.sizes_by_source.values()
    assert sizes["all"] == found.cluster_sizes
    assert sum(sizes["all"].values()) == found.clusters >= sum(sizes["near"].values()) > 0


def test_clusters_count_for_the_source_of_what_is_kept_and_with_copies(tmp_path):
    texts = [sentence(random.Random(seed)) for seed in range(4)]
    made = segments_of([texts, [texts[1], texts[2]]], tmp_path, CONFIG, priorities=[3, 0])
    made = [replace(segment, source=segment.part) for segment in made]
    made[0].count_copies(np.array([0, 0, 2]))  # of text 2 the other source's document is kept
    found = find_duplicates(made, CONFIG, tmp_path / "duplicates")
    assert found.counted == {"exact": 5, "near": 0}
    assert {source: sizes["exact"] for source, sizes in found.sizes_by_source.items()} == {
        0: {"3-4": 1},
        1: {"2": 1, "3-4": 1},
    }


def test_chinese_near_duplicates_are_found(tmp_path):
    text = "".join(chr(0x4E00 + (i * i * 31) % 2000) for i in range(300))
    other = "".join(chr(0x4E00 + (i * i * 37) % 2000) for i in range(300))
    _, outcome, _ = find([text, text[:-3] + "新年好", other], tmp_path)
    assert np.bincount(outcome).tolist() == [2, 0, 1]


def test_texts_without_words_are_no_near_duplicates(tmp_path):
    assert find(["...", "!!!", "?!"], tmp_path / "a")[1] == [KEPT] * 3
    assert find([], tmp_path / "b")[1] == []
    assert outcomes([], tmp_path / "c", CONFIG)[1] == []


def test_a_pair_is_a_duplicate_exactly_from_the_threshold_on(tmp_path):
    text = " ".join(f"w{i}" for i in range(104))  # 100 shingles; the tail of k words takes k of them away, adds k
    pair = [text, " ".join(text.split()[:-8] + [f"x{i}" for i in range(8)])]
    similarity = 92 / 108
    for i, (threshold, expected) in enumerate(((similarity - 1e-9, 1), (similarity + 1e-9, 2))):
        kept = find(pair, tmp_path / str(i), DeduplicateConfig(threshold=threshold))[2]
        assert len(set(kept)) == expected


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 10_000))
def test_clusters_are_those_of_exact_similarity_in_any_order_parts_and_memory(tmp_path_factory, seed):
    rng = random.Random(seed)
    texts = family(rng)
    kept_texts = []
    for size, bits, records, files in ((len(texts), 17, 1 << 20, 512), (5, 1, 128, 3), (9, 2, 256, 512)):
        rng.shuffle(texts)
        parts = [texts[i : i + size] for i in range(0, len(texts), size)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(segments, "SEGMENT_BITS", bits)
            patch.setattr(runs, "RUN_RECORDS", records)
            patch.setattr(steps, "MERGED_FILES", files)
            patch.setattr(steps, "_MERGED_AT_ONCE", 4)
            _, outcome, kept = outcomes(parts, tmp_path_factory.mktemp("order"), CONFIG)
        kept_texts.append({text for text, code in zip(texts, outcome) if code == KEPT})
        assert kept_texts[-1] == set(kept)
        possible = exact_clusters(texts)
        assert all(any(group <= other for other in possible) for group in clusters(texts, kept))
    assert kept_texts[0] == kept_texts[1] == kept_texts[2]


def test_nearly_every_pair_above_the_threshold_is_found(tmp_path):
    rng = random.Random(5)
    texts = []
    for changes in (1, 2, 3) * 60:
        text = sentence(rng, 120)
        texts += [text, variant(text, rng, changes)]
    kept = find(texts, tmp_path)[2]
    wanted = [group for group in exact_clusters(texts) if len(group) == 2]
    found = clusters(texts, kept)
    assert len(wanted) > 100
    assert sum(group in found for group in wanted) / len(wanted) >= 0.98
    assert all(group in wanted for group in found if len(group) == 2)


def test_a_fixed_side_wins(tmp_path):
    rng = random.Random(3)
    text = sentence(rng, 400)
    texts = [text, variant(text, rng, 1), variant(text, rng, 1), text]
    for forced in range(4):
        priorities = [3] * 4
        priorities[forced] = 0
        _, outcome, kept = outcomes([[t] for t in texts], tmp_path / str(forced), CONFIG, priorities)
        assert [i for i, code in enumerate(outcome) if code == KEPT] == [forced]
        assert set(kept) == {texts[forced]}


def test_one_huge_cluster_fits_in_small_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT_BITS", 5)
    monkeypatch.setattr(runs, "RUN_RECORDS", 128)
    monkeypatch.setattr(near, "PIVOTS", 20)
    rng = random.Random(8)
    text = sentence(rng, 300)
    texts = [f"{text} {i}" for i in range(150)] + [text.upper(), text]
    largest = 0
    pieces = runs.KeyRange.pieces

    def watched(self):
        nonlocal largest
        for piece in pieces(self):
            largest = max(largest, len(piece))
            yield piece

    monkeypatch.setattr(runs.KeyRange, "pieces", watched)
    found, outcome, kept = find(texts, tmp_path)
    assert np.bincount(outcome).tolist() == [1, 1, 150]
    assert found.largest_cluster == len(texts)
    assert len(set(kept)) == 1
    assert found.unchecked == 0
    assert largest <= 128


def test_processes_and_an_interrupted_attempt_change_nothing(tmp_path, monkeypatch):
    texts = family(random.Random(2), originals=8)
    parts = [texts[:20], texts[20:]]
    expected = outcomes(parts, tmp_path / "one", CONFIG)[1:]
    monkeypatch.setattr(steps, "_WORTH_PROCESSES_TASKS", 2)
    assert outcomes(parts, tmp_path / "two", CONFIG, workers=2)[1:] == expected
    done = []
    finish = steps.finish

    def dying(folder, marker, *values):
        done.append(marker)
        if len(done) in (3, 7, 8, 12):
            raise KeyboardInterrupt
        return finish(folder, marker, *values)

    monkeypatch.setattr(steps, "finish", dying)
    made = segments_of(parts, tmp_path / "killed", CONFIG)
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            find_duplicates(made, CONFIG, tmp_path / "duplicates")
    found = find_duplicates(made, CONFIG, tmp_path / "duplicates")
    assert len(done) == len(set(done)) + 4  # only the tasks that were killed were done twice
    assert [code for segment in made for code in found.of(segment)[0].tolist()] == expected[0]


def test_memory_does_not_grow_with_the_documents(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT_BITS", 6)
    monkeypatch.setattr(runs, "RUN_RECORDS", 1 << 11)
    rng = random.Random(6)
    originals = [sentence(rng, 30) for _ in range(450)]
    texts = [text for original in originals for text in (original, original.upper(), variant(original, rng, 1))]
    peaks = []
    for count in (450, 1350):
        made = segments_of([texts[:count]], tmp_path / str(count), CONFIG)
        tracemalloc.start()
        found = find_duplicates(made, CONFIG, tmp_path / f"{count}-duplicates")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert found.clusters == count // 3
    assert peaks[1] < 1.3 * peaks[0]


def test_a_damaged_file_of_an_earlier_attempt_is_made_anew(tmp_path):
    texts = family(random.Random(4))
    made = segments_of([texts], tmp_path, CONFIG)
    expected = find_duplicates(made, CONFIG, tmp_path / "duplicates").of(made[0])[0].tolist()
    for path in sorted((tmp_path / "duplicates").glob("*.edges")):
        os.truncate(path, 0)
    assert find_duplicates(made, CONFIG, tmp_path / "duplicates").of(made[0])[0].tolist() == expected
    assert NEAR in expected
