"""What is added for a document follows from the document alone."""

import pytest

from groundup.corpus.augment import Augmentation, Augmenter, Refused, RewriteConfig
from groundup.corpus.augment.methods import SentenceShuffleConfig, SpanNoiseConfig
from groundup.corpus.documents import Document

DOCUMENTS = [
    Document(f"f:{n}", f"Number {n} is here. It has friends. They are {n + 1}.", "s", {"k": n}) for n in range(60)
]


def added(documents, *methods, complete=None, tmp_path=None):
    augmenter = Augmenter(Augmentation(methods, seed=5), tmp_path, complete)
    return [document for _, further in augmenter.over(documents) for document in further], augmenter.added


def shuffle(**options):
    return SentenceShuffleConfig(name="shuffle", **{"fraction": 1.0, **options})


def test_ids_metadata_and_counts():
    further, counts = added(DOCUMENTS[:3], shuffle(copies=2))
    assert counts["shuffle"].documents == len(further)
    assert counts["shuffle"].documents + counts["shuffle"].unchanged == 6
    assert counts["shuffle"].bytes == sum(len(document.text.encode()) for document in further)
    first = further[0]
    assert first.id.startswith("f:0#shuffle-")
    assert first.metadata == {"k": 0, "augmented": "shuffle", "original": "f:0"}
    assert len({document.id for document in further}) == len(further)


def test_the_fraction_is_drawn_by_document():
    half = shuffle(fraction=0.5)
    every, _ = added(DOCUMENTS, half)
    assert 15 < len({document.metadata["original"] for document in every}) < 45
    backwards, _ = added(DOCUMENTS[::-1], half)
    assert sorted(every, key=lambda d: d.id) == sorted(backwards, key=lambda d: d.id)
    alone, _ = added([DOCUMENTS[7]], half)
    assert alone == [document for document in every if document.metadata["original"] == "f:7"]


def test_only_the_named_sources():
    other = Document("f:1", DOCUMENTS[1].text, "other")
    further, _ = added([*DOCUMENTS[:5], other], shuffle(sources=("other",)))
    assert {document.source for document in further} == {"other"}


def test_refusals_and_what_stays_the_same_are_counted(tmp_path):
    def complete(config):
        def answer(prompt, seed):
            if "Number 1 " in prompt:
                raise Refused("no")
            return prompt.rpartition("\n\n")[2] if "Number 2 " in prompt else f"rewritten {seed}"

        return answer

    method = RewriteConfig(name="r", fraction=1.0, model_folder="m")
    further, counts = added(DOCUMENTS[:4], method, complete=complete, tmp_path=tmp_path)
    assert [document.id for document in further] == ["f:0#r-0", "f:3#r-0"]
    assert (counts["r"].documents, counts["r"].unchanged, counts["r"].refused) == (2, 1, {"no": 1})


@pytest.mark.parametrize("ahead", [2, 16])
def test_threads_keep_the_order(monkeypatch, ahead):
    methods = (shuffle(fraction=0.7), SpanNoiseConfig(name="noise", fraction=0.7, share=0.3))
    expected, counts = added(DOCUMENTS, *methods)
    monkeypatch.setattr(Augmentation, "concurrent", ahead)
    assert added(DOCUMENTS, *methods) == (expected, counts)
