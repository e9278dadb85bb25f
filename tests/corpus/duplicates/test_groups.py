"""The member of a group that is kept is the same in any order and in any pieces."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from groundup.corpus.duplicates.groups import kept_of_groups
from groundup.corpus.segments import MEMBER

MEMBERS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=40
)


@given(MEMBERS, st.randoms(use_true_random=False), st.integers(1, 40))
def test_the_lowest_rank_is_kept(members, rng, size):
    records = [(key, second, priority, (content, 7), i) for i, (key, second, priority, content) in enumerate(members)]
    rng.shuffle(records)
    made = np.array(records, dtype=MEMBER)
    found = kept_of_groups(lambda: (made[i : i + size] for i in range(0, len(made), size)))
    kept = {
        int(document): int(chosen) for group, all_kept in found for document, chosen in zip(group["document"], all_kept)
    }
    for key, second, _, _, document in records:
        group = [record for record in records if record[:2] == (key, second)]
        assert kept[document] == min(group, key=lambda record: record[2:])[4]
