"""A model folder as the function that rewrites documents for augmentation: the corpus itself knows no networks."""

from __future__ import annotations

from pathlib import Path

from groundup.corpus.augment import Complete, Refused, RewriteConfig, model_folder
from groundup.errors import RecipeError
from groundup.export import load_model
from groundup.inference import GenerateConfig


def complete_with(config: RewriteConfig) -> Complete:
    """Prompt and seed -> answer of the model in `config.model_folder`, loaded once.

    Raises DataError when there is no such folder, ModelFileError when no model that can be used is in it. The function
    raises Refused for a prompt that does not fit the model's context.
    """
    loaded = load_model(model_folder(config, (Path.cwd(), Path.cwd())))

    def complete(prompt: str, seed: int) -> str:
        generation = GenerateConfig(max_new_tokens=config.max_tokens, temperature=config.temperature, seed=seed)
        try:
            return "".join(loaded.chat(generation).reply(prompt))
        except RecipeError:
            raise Refused("prompt longer than the model's context") from None

    return complete
