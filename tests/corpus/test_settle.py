"""Pieces of one text get one side, by the kept piece with the lowest hash, wherever segments end."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.corpus.duplicates.deduplicate import EXACT, KEPT
from groundup.corpus.segments import CODES, ROW, ROWS, Segment, document_number
from groundup.corpus.settle import Settling, assign_codes, tally, with_draws
from groundup.corpus.split import SplitConfig, assign

SPLIT = SplitConfig(validation=0.4, test=0.1)


class Outcomes:
    """Outcomes as find_duplicates would give them."""

    def __init__(self, outcome):
        self._outcome = outcome

    def of(self, segment):
        first = segment.first - document_number(segment.part, 0)
        return self._outcome[first : first + segment.rows], np.zeros(segment.rows, dtype=np.uint64)


def settled(folder, lengths, dropped, size, forced=0):
    """(codes, sizes of the splits) of texts of some numbers of pieces, in segments of a size."""
    rows = np.zeros(sum(lengths), dtype=ROW)
    rows["content"][:, 0] = np.random.default_rng(len(rows)).integers(0, 2**64, len(rows), dtype=np.uint64)
    rows["group"] = np.repeat(np.cumsum([0, *lengths])[:-1], lengths)
    rows["characters"] = 10
    outcome = np.where(np.isin(np.arange(len(rows)), dropped), EXACT, KEPT).astype(np.uint8)
    made = []
    for start in range(0, len(rows), size):
        place = folder / f"{size}-{start}"
        place.mkdir()
        rows[start : start + size].tofile(place / ROWS)
        made.append(Segment(place, 3, document_number(3, start), len(rows[start : start + size]), 3))
    tasks = [Settling(segment, Outcomes(outcome), SPLIT, forced) for segment in made]
    sizes = [assign_codes(task) for task in with_draws(tasks, [tally(task) for task in tasks])]
    codes = np.concatenate([np.fromfile(segment.folder / CODES, dtype=np.uint8) for segment in made])
    return rows, outcome, codes, sizes


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=12), st.sets(st.integers(0, 40)), st.integers(1, 30))
def test_segments_do_not_show_in_the_codes(tmp_path_factory, lengths, dropped, size):
    folder = tmp_path_factory.mktemp("settle")
    rows, outcome, codes, sizes = settled(folder, lengths, list(dropped), size)
    expected = np.zeros(len(rows), dtype=np.uint8)
    texts = [rows["group"] == first for first in np.unique(rows["group"])]
    kept = [text & (outcome == KEPT) for text in texts if (text & (outcome == KEPT)).any()]
    keys = np.array([rows["content"][text, 0].min() for text in kept], dtype=np.uint64)
    for text, code in zip(kept, assign(keys, SPLIT)):
        expected[text] = code
    assert codes.tolist() == expected.tolist()
    assert sum(size[split]["documents"] for size in sizes for split in size) == (outcome == KEPT).sum()
    assert sum(size["validation"]["characters"] for size in sizes) == 10 * (codes == 2).sum()


def test_a_fixed_side_needs_no_draw(tmp_path):
    _, _, codes, _ = settled(tmp_path, [2, 2], [1], 3, forced=3)
    assert codes.tolist() == [3, 0, 3, 3]
