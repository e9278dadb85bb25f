"""Further documents made of those of the train split: off unless the recipe asks for it.

methods.py    without a model: sentences shuffled or left out, spans noised, synonyms
rewriting.py  by a model: paraphrase, back-translation; cache
endpoint.py   an OpenAI-compatible server
augmenter.py  which documents, what is added, what is counted
"""

from groundup.corpus.augment.augmenter import (
    Added,
    Augmentation,
    AugmentConfig,
    Augmenter,
    load_augmentation,
    model_folder,
)
from groundup.corpus.augment.endpoint import Endpoint, EndpointConfig, Refused
from groundup.corpus.augment.rewriting import Complete, RewriteConfig

__all__ = [
    "Added",
    "AugmentConfig",
    "Augmentation",
    "Augmenter",
    "Complete",
    "Endpoint",
    "EndpointConfig",
    "Refused",
    "RewriteConfig",
    "load_augmentation",
    "model_folder",
]
