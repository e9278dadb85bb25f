"""The finished toy run that the report's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.toy_run import make_run


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A finished run."""
    return make_run(tmp_path / "work")
