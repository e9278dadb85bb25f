"""Trained state <-> Hugging Face layout; each export is reloaded and compared."""

from groundup.export.check import check_export
from groundup.export.huggingface import ExportConfig, save_model
from groundup.export.labels import save_labeller
from groundup.export.load import LoadedModel, load_model

__all__ = ["ExportConfig", "LoadedModel", "check_export", "load_model", "save_labeller", "save_model"]
