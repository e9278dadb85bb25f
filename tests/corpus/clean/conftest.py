"""A cleaner made of recipe values, as a function of a text."""

from __future__ import annotations

import pytest

from groundup.config import build
from groundup.corpus.clean import CleanConfig, Cleaner, Dropped
from groundup.corpus.documents import Document


@pytest.fixture
def run():
    """run(text, **options of corpus.clean) -> (cleaned text or Dropped, what was changed)."""

    def clean(text, **options):
        cleaner = Cleaner(build(CleanConfig, options, "test"))
        outcome = cleaner.clean(Document("a:1", text, "s"))
        return (outcome if isinstance(outcome, Dropped) else outcome.text), cleaner.changes

    return clean
