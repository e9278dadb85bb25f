"""The layouts of model folders: which one says what a config says, and how."""

from collections.abc import Iterator

from groundup.errors import ModelFileError
from groundup.models.layouts.bert import BERT, BERT_BODY, bert_name
from groundup.models.layouts.bert_tasks import SEQUENCE_LABELS, SPANS, WORD_LABELS
from groundup.models.layouts.classic import GPT2, OPT, XGLM
from groundup.models.layouts.layout import ConfigValues, Layout, Part, gathered, holders
from groundup.models.layouts.llama import LLAMA, MISTRAL, QWEN2, QWEN3
from groundup.models.layouts.others import other_layout
from groundup.models.layouts.own import own_kind, own_layout
from groundup.models.network import NetworkConfig
from groundup.models.transformers_model import TransformersConfig

LAYOUTS: tuple[Layout, ...] = (
    *(LLAMA, MISTRAL, QWEN2, QWEN3, GPT2, XGLM, OPT),
    *(BERT, BERT_BODY, SEQUENCE_LABELS, WORD_LABELS, SPANS),
)
"""Those of transformers; the first that can say a config is the one it is exported in."""


def find_layout(model_type: object, architecture: object = None) -> Layout | None:
    """The layout that a config.json names; of several with one model_type that of the architecture."""
    for layout in (*LAYOUTS, *_unlisted(model_type)):
        if layout.model_type == model_type and (architecture is None or architecture in layout.architectures):
            return layout
    return None


def _unlisted(model_type: object) -> Iterator[Layout]:
    """Layouts that are made when they are asked for."""
    cls = own_kind(model_type)
    if cls is not None:
        yield own_layout(cls)
    elif all(layout.model_type != model_type for layout in LAYOUTS):
        other = other_layout(model_type)
        yield from () if other is None else (other,)


def unlisted_layout(config: NetworkConfig) -> Layout:
    """The layout of a kind of model that none of `LAYOUTS` is for."""
    if not isinstance(config, TransformersConfig):
        return own_layout(type(config))
    found = other_layout(config.values.get("model_type"))
    if found is None:
        raise ModelFileError(f"transformers has no causal model of type {config.values.get('model_type')}; use another")
    return found


__all__ = [
    "LAYOUTS",
    "ConfigValues",
    "Layout",
    "Part",
    "bert_name",
    "find_layout",
    "gathered",
    "holders",
    "unlisted_layout",
]
