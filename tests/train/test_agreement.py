"""Who differs from whom: the minority is named, or all where there is none."""

from __future__ import annotations

import pytest
import torch

from groundup.errors import FIRST_LINE_LIMIT, ResourceError
from groundup.train import agreement
from groundup.train.agreement import Agreement, Difference, odd_ones_out
from tests.train import toys


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ([[1, 5], [1, 5], [1, 5]], {}),
        ([[1, 5], [1, 6], [1, 5]], {"b": (14,)}),
        ([[1, 5], [2, 6], [3, 5]], {"a": (10, 14, 18), "b": (14,)}),
        ([[1, 5], [1, 6]], {"b": (10, 14)}),
        ([[1, 5], [1, 5], [2, 5], [2, 5]], {"a": (10, 14, 18, 22)}),
    ],
)
def test_the_minority_is_named(table: list[list[int]], expected: dict[str, tuple[int, ...]]) -> None:
    ranks = (10, 14, 18, 22)[: len(table)]
    assert odd_ones_out(["a", "b"], torch.tensor(table), ranks) == expected


def test_one_rank_has_nothing_to_be_compared_with_but_shows_its_digest_where_ranks_do_not_change_it() -> None:
    state = toys.state()
    alone = Agreement(4, state)
    assert not alone.due(4) and alone.find(state, 1.0) is None and not alone.is_of(0)
    state.exact = True
    exact = Agreement(4, state)
    assert exact.due(4) and not exact.due(5)
    assert exact.find(state, 1.0) is None and exact.is_of(0) and len(exact.digest) == 16
    before = exact.digest
    with torch.no_grad():
        state.model.get_parameter("embedding.weight")[3, 2] += 1e-3
    exact.forget()
    exact.find(state, 1.0)
    assert exact.digest != before
    assert not Agreement(0, state).due(0)


def test_a_run_does_not_go_back_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    state = toys.state()
    state.exact = True
    found = Agreement(1, state)
    name = "layers.31.attention." + "query." * 20
    monkeypatch.setattr(agreement, "_differing_numbers", lambda *_: {name: (1,)})
    monkeypatch.setattr(agreement, "_together", lambda *_: Difference((1,), (name,)))
    for _ in range(agreement.GO_BACK_TIMES):
        difference = found.find(state, 1.0)
        assert difference is not None and difference.where.startswith("rank 1, layers.31")
    with pytest.raises(ResourceError, match="for the 4th time") as caught:
        found.find(state, 1.0)
    assert len(caught.value.message) <= FIRST_LINE_LIMIT and caught.value.exit_code == 6
