"""Ranks hear the words of the first one in order, however late, and say of a lost one that it is lost."""

from __future__ import annotations

import threading
import time

import pytest
import torch.distributed

from groundup.errors import LostRankError, RecipeError
from groundup.parallel import ParallelConfig, Rank, Ranks, contact
from tests.ports import free_port

WORDS = [{"done": "corpus", "folder": "a b"}, {"train": "pretrain"}, {"end": "run"}]


def place(rank: int, port: int, attempt: int = 0) -> Rank:
    return Rank(rank=rank, world_size=2, local_rank=rank, address="127.0.0.1", port=port, attempt=attempt)


def test_all_words_are_heard_in_order() -> None:
    port, heard = free_port(), []

    def listen() -> None:
        ranks = Ranks(place(1, port), ParallelConfig())
        assert not ranks.leads
        while "end" not in (heard or [{}])[-1]:
            heard.append(ranks.hear())

    listener = threading.Thread(target=listen)
    listener.start()
    first = Ranks(place(0, port), ParallelConfig())
    assert first.leads
    for word in WORDS:
        first.say(word)
        time.sleep(0.05)
    listener.join(timeout=20)
    assert heard == WORDS


def test_ranks_that_are_started_again_hear_nothing_of_what_was_said_before() -> None:
    """One store for three starts: the second rank counts its starts otherwise, and comes before the first one."""
    port, heard = free_port(), []
    server = torch.distributed.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False, multi_tenant=True)

    def listen(attempt: int) -> None:
        heard.append(Ranks(place(1, port, attempt), ParallelConfig()).hear())

    for number in range(3):
        listener = threading.Thread(target=listen, args=(0,))
        listener.start()
        time.sleep(0.3)
        first = Ranks(place(0, port, attempt=number), ParallelConfig())
        first.say({"start": number})
        listener.join(timeout=20)
    assert heard == [{"start": number} for number in range(3)]
    del server


def test_the_first_rank_leaves_last() -> None:
    port, left = free_port(), list[int]()

    def part(rank: int) -> None:
        ranks = Ranks(place(rank, port), ParallelConfig())
        if rank:
            time.sleep(0.5)
            left.append(rank)
        ranks.leave()
        if not rank:
            left.append(rank)

    both = [threading.Thread(target=part, args=(rank,)) for rank in (0, 1)]
    for each in both:
        each.start()
    for each in both:
        each.join(timeout=20)
    assert left == [1, 0]


def test_another_layout_is_refused_before_the_meeting() -> None:
    with pytest.raises(RecipeError, match="does not divide 2 ranks"):
        Ranks(place(0, 1), ParallelConfig(shard=5))


def test_a_lost_rank_is_said_to_be_lost_and_other_errors_pass() -> None:
    ranks = Ranks.__new__(Ranks)
    ranks.place = place(1, 1)
    with pytest.raises(LostRankError, match="rank 1 of 2: another rank ended") as caught, contact(ranks):
        raise RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer")
    assert caught.value.exit_code == 6 and "Connection closed" in caught.value.details[0]
    with pytest.raises(RuntimeError, match="shapes"), contact(ranks):
        raise RuntimeError("shapes do not match")
    with pytest.raises(RuntimeError, match="gloo"), contact(None):
        raise RuntimeError("gloo/transport: closed")
