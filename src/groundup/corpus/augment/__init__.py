"""Further documents made of those of the train split: off unless the recipe asks for it.

methods.py    without a model: sentences shuffled or left out, spans noised, synonyms
rewriting.py  by a model: paraphrase, back-translation; endpoint, cache
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
from groundup.corpus.augment.rewriting import Complete, Refused, RewriteConfig

__all__ = [
    "Added",
    "AugmentConfig",
    "Augmentation",
    "Augmenter",
    "Complete",
    "Refused",
    "RewriteConfig",
    "load_augmentation",
    "model_folder",
]
