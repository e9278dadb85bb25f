from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.errors import DataError
from groundup.tokens import Mixture, MixtureSource, Row
from groundup.tokens import mixture as mixture_module
from groundup.tokens.mixture import permute, rows_by_share


class Toy:
    """Rows whose tokens say which row they are."""

    def __init__(self, name: str, num_rows: int, context_length: int = 4) -> None:
        self.name, self.num_rows, self.context_length = name, num_rows, context_length

    def row(self, index: int) -> Row:
        assert 0 <= index < self.num_rows
        wide, narrow = np.full(self.context_length, index, np.int64), np.zeros(self.context_length, np.int32)
        return Row(wide, wide + 1, narrow, narrow)


def mixture(sizes: list[int], shares: list[float], rows_per_step: int = 8, seed: int = 1) -> Mixture:
    sources = [MixtureSource(Toy(f"source{i}", size), share) for i, (size, share) in enumerate(zip(sizes, shares))]
    return Mixture(sources, rows_per_step, seed)


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(), st.text(max_size=5), st.integers(0, 5))
def test_the_permutation_is_a_bijection(size: int, seed: int, name: str, epoch: int) -> None:
    order = permute(np.arange(size), size, seed, name, epoch)
    assert np.array_equal(np.sort(order), np.arange(size))


@pytest.mark.parametrize("size", [2**31 + 11, 2**40, 10**12])
def test_the_permutation_needs_no_list(size: int) -> None:
    index = np.array([0, 1, size // 2, size - 1])
    order = permute(index, size, 1)
    assert len(set(order.tolist())) == 4
    assert ((order >= 0) & (order < size)).all()


def test_the_permutation_shuffles_well() -> None:
    size = 10_000
    order = permute(np.arange(size), size, 7, "text", 0)
    assert abs(np.corrcoef(np.arange(size), order)[0, 1]) < 0.05
    assert abs(np.diff(order)).mean() == pytest.approx(size / 3, rel=0.05)
    assert (order == np.arange(size)).sum() < 10
    for other in ((8, "text", 0), (7, "talk", 0), (7, "text", 1)):
        assert (order == permute(np.arange(size), size, *other)).mean() < 0.01


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=6), st.integers(6, 200))
def test_shares_become_whole_rows(shares: list[float], rows_per_step: int) -> None:
    rows = rows_by_share(shares, rows_per_step)
    assert sum(rows) == rows_per_step
    assert min(rows) >= 1
    ideal = np.array(shares) / sum(shares) * rows_per_step
    if (ideal >= 1).all():
        assert (abs(np.array(rows) - ideal) < 1).all()


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=3), st.integers(0, 10**9))
def test_every_row_is_used_once_per_epoch(sizes: list[int], seed: int) -> None:
    mixed = mixture(sizes, [1.0 + i for i in range(len(sizes))], seed=seed)
    steps = 60
    used: dict[int, list[int]] = {source: [] for source in range(len(sizes))}
    for i in range(steps * mixed.rows_per_step):
        source, row = mixed.sample(i)
        used[source].append(row)
    for source, rows in used.items():
        size = sizes[source]
        assert len(rows) == steps * mixed.rows_of_sources[source]
        for start in range(0, len(rows) - size + 1, size):
            assert sorted(rows[start : start + size]) == list(range(size))
    assert mixed.epochs(steps)["source0"] == steps * mixed.rows_of_sources[0] / sizes[0]


def test_epochs_differ_in_order() -> None:
    mixed = mixture([64], [1.0])
    rows = [mixed.sample(i)[1] for i in range(128)]
    assert rows[:64] != rows[64:]


@pytest.mark.parametrize("rows_at_once", [1, 2, 4, 8])
def test_micro_batches_do_not_change_what_a_step_sees(rows_at_once: int) -> None:
    mixed = mixture([13, 50], [0.25, 0.75])
    whole = mixed.batch(9, 0, 8)
    parts = [mixed.batch(9, first, rows_at_once) for first in range(0, 8, rows_at_once)]
    assert torch.equal(torch.cat([part.tokens for part in parts]), whole.tokens)
    assert torch.equal(torch.cat([part.sources for part in parts]), whole.sources)


def test_a_step_needs_nothing_but_its_number() -> None:
    first, again = mixture([13, 50], [0.25, 0.75]), mixture([13, 50], [0.25, 0.75])
    run = [(first.batch(step, 0, 8).tokens, first.sample_ids_hash(step)) for step in range(20)]
    for step in (19, 3, 11, 0):
        assert torch.equal(again.batch(step, 0, 8).tokens, run[step][0])
        assert again.sample_ids_hash(step) == run[step][1]
    assert len({ids for _, ids in run}) == 20


def test_samples_batches_and_hashes_tell_the_same() -> None:
    mixed = mixture([13, 50, 7], [0.2, 0.7, 0.1])
    batch = mixed.batch(5, 0, 8)
    samples = [mixed.sample(5 * 8 + j) for j in range(8)]
    assert batch.sources.tolist() == [source for source, _ in samples]
    assert batch.tokens[:, 0].tolist() == [row for _, row in samples]
    assert set(batch.sources.tolist()) == {0, 1, 2}, "every step has every source"


def test_the_seed_and_the_name_change_the_order() -> None:
    hashes = {mixture([50], [1.0], seed=seed).sample_ids_hash(0) for seed in range(5)}
    assert len(hashes) == 5


def test_sources_are_spread_over_the_micro_batches() -> None:
    mixed = mixture([50, 50], [0.25, 0.75])
    assert all(mixed.batch(0, first, 4).sources.tolist().count(0) == 1 for first in (0, 4))


@pytest.mark.parametrize(
    ("sources", "rows_per_step", "expected"),
    [
        ([], 8, "without sources"),
        ([MixtureSource(Toy("a", 0), 1.0)], 8, "'a' has no rows"),
        ([MixtureSource(Toy("a", 5), 0.0)], 8, "share 0.0"),
        ([MixtureSource(Toy("a", 5), -1.0)], 8, "share -1.0"),
        ([MixtureSource(Toy("a", 5), float("nan"))], 8, "share nan"),
        ([MixtureSource(Toy("a", 5), 1.0), MixtureSource(Toy("a", 5), 1.0)], 8, "share a name"),
        ([MixtureSource(Toy("a", 5), 1.0), MixtureSource(Toy("b", 5), 1.0)], 1, "cannot hold 2 sources"),
        ([MixtureSource(Toy("a", 5), 1.0), MixtureSource(Toy("b", 5, 8), 1.0)], 8, "rows of 8 tokens"),
    ],
)
def test_what_cannot_be_mixed_is_refused(sources: list[MixtureSource], rows_per_step: int, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        Mixture(sources, rows_per_step, seed=1)


@pytest.mark.parametrize(("first", "count"), [(-1, 2), (7, 2), (0, 9), (3, 0)])
def test_rows_outside_a_step_are_refused(first: int, count: int) -> None:
    with pytest.raises(IndexError):
        mixture([5], [1.0]).batch(0, first, count)


@pytest.mark.parametrize("step", [0, 1, 10**6, 10**9])
def test_a_late_step_costs_what_the_first_one_costs(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In rows read, elements permuted and passes over them: three sources, one of them seen over and over."""
    read: list[int] = []
    permuted: list[int] = []
    real, real_row = mixture_module._feistel, Toy.row

    def counted(value: np.ndarray, half_bits: int, keys: np.ndarray) -> np.ndarray:
        permuted.append(len(value))
        return real(value, half_bits, keys)

    monkeypatch.setattr(mixture_module, "_feistel", counted)
    monkeypatch.setattr(Toy, "row", lambda toy, index: (read.append(index), real_row(toy, index))[1])
    mixed = mixture([5, 1000, 10**9], [0.25, 0.25, 0.5])
    mixed.batch(step, 0, 8)
    assert len(read) == 8
    assert sum(permuted) < 8 * mixture_module.ROWS_AT_ONCE, "a walk takes less than four passes on average"
    assert len(permuted) < 200


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 3000), min_size=1, max_size=12), st.sampled_from([2, 8, 700]))
def test_the_order_of_asking_does_not_matter(steps: list[int], rows_per_step: int) -> None:
    """Steps are worked out in blocks; whichever is asked for first, a sample is the permutation of its use."""
    mixed = mixture([13, 500], [0.5, 0.5], rows_per_step=rows_per_step)
    for step in steps:
        for slot in (0, rows_per_step - 1):
            source, row = mixed.sample(step * rows_per_step + slot)
            rank = sum(int(mixed.sample(step * rows_per_step + j)[0] == source) for j in range(slot))
            epoch, index = divmod(step * mixed.rows_of_sources[source] + rank, (13, 500)[source])
            assert row == permute(np.array([index]), (13, 500)[source], 1, f"source{source}", epoch)[0]


@settings(deadline=None)
@given(size=st.integers(1, 60), share=st.floats(0.1, 0.9), first=st.integers(0, 400))
def test_continuous_rows_go_on_where_the_step_before_ended(size: int, share: float, first: int) -> None:
    sources = [MixtureSource(Toy("text", size), share), MixtureSource(Toy("more", 17), 1 - share)]
    mix = Mixture(sources, 8, 1, order="continuous")
    before, after = (mix.batch(step, 0, 8) for step in (first, first + 1))
    assert torch.equal(before.sources, after.sources) and after.continues is not None
    for slot, source in enumerate(after.sources.tolist()):
        rows = sources[source].rows.num_rows
        row = int(after.tokens[slot, 0])
        assert row == (int(before.tokens[slot, 0]) + 1) % rows
        assert bool(after.continues[slot]) == (row > 0)


def test_continuous_slots_share_a_source_evenly_and_the_first_step_goes_on_from_nothing() -> None:
    mix = Mixture([MixtureSource(Toy("text", 40), 1.0)], 4, 1, order="continuous")
    assert mix.batch(0, 0, 4).tokens[:, 0].tolist() == [0, 10, 20, 30]
    assert mix.batch(0, 0, 4).continues.tolist() == [False] * 4
    seen = [row for step in range(10) for row in mix.batch(step, 0, 4).tokens[:, 0].tolist()]
    assert sorted(seen) == list(range(40))
    assert mix.batch(3, 2, 2).continues.tolist() == [True, True]


def test_shuffled_rows_go_on_from_nothing() -> None:
    assert mixture([5], [1.0]).batch(3, 0, 8).continues is None
