"""The layouts of model folders: which one says what a config says, and how."""

from groundup.models.layouts.bert import BERT, bert_name
from groundup.models.layouts.bert_tasks import SEQUENCE_LABELS, SPANS, WORD_LABELS
from groundup.models.layouts.classic import GPT2, OPT, XGLM
from groundup.models.layouts.layout import ConfigValues, Layout, Part
from groundup.models.layouts.llama import LLAMA, MISTRAL, QWEN2, QWEN3
from groundup.models.layouts.own import own_kind, own_layout

LAYOUTS: tuple[Layout, ...] = (LLAMA, MISTRAL, QWEN2, QWEN3, GPT2, XGLM, OPT, BERT, SEQUENCE_LABELS, WORD_LABELS, SPANS)
"""Those of transformers; the first that can say a config is the one it is exported in."""


def find_layout(model_type: object, architecture: object = None) -> Layout | None:
    """The layout that a config.json names; of several with one model_type that of the architecture."""
    for layout in LAYOUTS:
        if layout.model_type == model_type and (architecture is None or architecture in layout.architectures):
            return layout
    cls = own_kind(model_type)
    return own_layout(cls) if cls is not None and architecture is None else None


__all__ = ["LAYOUTS", "ConfigValues", "Layout", "Part", "bert_name", "find_layout", "own_layout"]
