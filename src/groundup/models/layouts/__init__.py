"""The layouts of transformers' decoders: which one says what a config says, and how."""

from groundup.models.layouts.classic import GPT2, OPT, XGLM
from groundup.models.layouts.layout import ConfigValues, Layout, Part
from groundup.models.layouts.llama import LLAMA, MISTRAL, QWEN2, QWEN3

LAYOUTS: dict[str, Layout] = {layout.model_type: layout for layout in (LLAMA, MISTRAL, QWEN2, QWEN3, GPT2, XGLM, OPT)}
"""By model_type; the first that can say a config is the one it is exported in."""

__all__ = ["LAYOUTS", "ConfigValues", "Layout", "Part"]
