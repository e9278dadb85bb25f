"""Groundup: one recipe takes raw text to an instruction-tuned model that one can chat with.

    import groundup
    recipe = groundup.load_recipe("recipes/smoke.yaml", ["pretrain.tokens=20480"])
    result = groundup.run(recipe)
    model = groundup.load_model(result.model_folder)

Everything here is imported at first use, so that `import groundup` is instant.
"""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {
    "Recipe": "groundup.pipeline",
    "RunResult": "groundup.pipeline",
    "load_recipe": "groundup.pipeline",
    "run": "groundup.pipeline",
    "prepare": "groundup.pipeline",
    "pretrain": "groundup.pipeline",
    "instruct": "groundup.pipeline",
    "status": "groundup.pipeline",
    "import_model": "groundup.export",
    "load_model": "groundup.export",
    "save_model": "groundup.export",
    "build_report": "groundup.report",
    "verify": "groundup.stage",
}
__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'groundup' has no attribute '{name}'; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return __all__
