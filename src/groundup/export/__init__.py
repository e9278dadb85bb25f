"""Trained state <-> Hugging Face layout; each export is reloaded and compared."""

from groundup.export.adapter import save_adapter
from groundup.export.adapter_source import with_adapter
from groundup.export.check import check_export
from groundup.export.huggingface import ExportConfig, save_model, save_weights
from groundup.export.imports import import_model
from groundup.export.load import LoadedModel, load_model
from groundup.export.source import FittedSource, ModelSource, open_source

__all__ = [
    "ExportConfig",
    "FittedSource",
    "LoadedModel",
    "ModelSource",
    "check_export",
    "import_model",
    "load_model",
    "open_source",
    "save_adapter",
    "save_model",
    "save_weights",
    "with_adapter",
]
