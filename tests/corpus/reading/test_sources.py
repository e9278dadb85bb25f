"""What a recipe may say of a source."""

import pytest
from pydantic import ValidationError

from groundup.corpus.reading.sources import SourceConfig


@pytest.mark.parametrize("path", ["", "https://example.org/a.txt", "a\0b"])
def test_paths_that_are_refused(path):
    with pytest.raises(ValidationError):
        SourceConfig(name="a", path=path)
