"""Bytes by the allocator's events: what is held, what was at most, and blocks whose end nobody told of."""

from __future__ import annotations

from typing import Any

import torch
from benchmarks.allocations import Allocations, Block, blocks


def event(address: int, change: int, moment: float) -> dict[str, Any]:
    return {"ts": moment, "args": {"Addr": address, "Bytes": change}}


def test_what_is_allocated_and_freed_is_counted() -> None:
    before = torch.empty(1000)
    with Allocations() as seen:
        kept = torch.empty(25_000)
        seen.mark("one")
        gone = torch.empty(50_000)
        seen.mark("two")
        del gone, before
        seen.mark("three")
        passing = torch.empty(10_000)
        del passing
    assert [seen.held(mark) for mark in ("one", "two", "three")] == [100_000, 300_000, 100_000]
    assert [seen.unclaimed(mark) for mark in ("one", "two", "three")] == [0, 0, 0]
    assert (seen.peak(), seen.peak("three")) == (300_000, 140_000)
    assert kept.numel() == 25_000


def test_a_block_that_another_thread_freed_ends_where_its_address_is_given_out_again() -> None:
    found = blocks([event(1, 100, 1.0), event(2, 10, 2.0), event(1, 30, 3.0), event(2, -10, 4.0), event(7, -5, 5.0)])
    assert found == [Block(1, 100, 1.0, 3.0), Block(2, 10, 2.0, 4.0), Block(1, 30, 3.0)]


def test_gradients_are_held_and_what_no_tensor_has_is_not() -> None:
    weight = torch.nn.Parameter(torch.ones(1000))
    with Allocations() as seen:
        (weight * 2).sum().backward()
        seen.mark("gradient")
        graph = (weight.exp() * 2).sum()  # keeps the result of exp, for the backward pass alone
        seen.mark("graph")
    assert (seen.held("gradient"), seen.unclaimed("gradient")) == (4000, 0)
    assert seen.held("graph") == 4004 and 4000 <= seen.unclaimed("graph") < 4020
    assert graph.requires_grad
