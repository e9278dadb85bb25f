"""Documents rewritten by a language model: paraphrase or back-translation, through an endpoint or a model folder.

    text -> pieces of whole paragraphs -> prompts -> answers (kept in a cache, one file each) -> pieces joined

A model folder is run by a function that a higher room gives (`Complete`), because this room knows no networks.

Invariant: an answer in the cache is never asked for again, so a killed run goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from groundup import stage
from groundup.config import digest
from groundup.corpus.augment.endpoint import EndpointConfig, Refused
from groundup.corpus.augment.methods import MethodConfig

Complete = Callable[[str, int], str]
"""Prompt and seed -> answer. Raises Refused when there is none for this prompt."""
_PARAPHRASE = (
    "Rewrite the following text in other words, in the same language, keeping every fact. Answer with the text only."
)
_TRANSLATE = "Translate the following text into {language}. Answer with the translation only."


class RewriteConfig(MethodConfig):
    """Documents rewritten by a language model."""

    kind: Literal["rewrite"] = "rewrite"
    endpoint: EndpointConfig | None = None
    """Server that answers; either this or `model_folder`."""
    model_folder: str = ""
    """Folder of a model in the Hugging Face layout, run here."""
    through: str = ""
    """Back-translation through this language, such as `German`; empty: a paraphrase."""
    language: str = "its original language"
    """Language to translate back into, where `through` is given."""
    instruction: str = ""
    """What the model is told instead of the built-in instruction for a paraphrase."""
    temperature: float = Field(default=0.7, ge=0, le=2)
    """Of the model's sampling."""
    max_tokens: int = Field(default=2048, ge=16)
    """Longest answer to one piece."""
    piece_characters: int = Field(default=3000, ge=200)
    """Documents are cut at paragraphs into pieces of about this length."""
    cache: str = ""
    """Folder that keeps the answers for other runs; empty: kept until the stage is finished."""

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if (self.endpoint is None) == (not self.model_folder):
            raise ValueError("needs one of endpoint and model_folder")
        if self.through and self.instruction:
            raise ValueError("takes one of through and instruction")
        return self

    def instructions(self) -> tuple[str, ...]:
        """What the model is told, one step after another."""
        if self.through:
            return tuple(_TRANSLATE.replace("{language}", language) for language in (self.through, self.language))
        return (self.instruction or _PARAPHRASE,)


class Rewriter:
    """Rewrites texts by a method's config; asks `complete` for what the cache does not have."""

    def __init__(self, config: RewriteConfig, complete: Complete, cache: Path) -> None:
        self._config, self._complete, self._cache = config, complete, cache
        model = config.endpoint.model if config.endpoint else config.model_folder
        self._model = digest([model, config.temperature, config.max_tokens])

    def rewrite(self, text: str, seed: str) -> str:
        """The text in other words. Raises Refused, and ResourceError when the server stays away."""
        pieces = _pieces(text, self._config.piece_characters)
        return "\n\n".join(self._rewrite_piece(piece, f"{seed}:{number}") for number, piece in enumerate(pieces))

    def _rewrite_piece(self, piece: str, seed: str) -> str:
        for instruction in self._config.instructions():
            piece = self._answer(f"{instruction}\n\n{piece}", seed).strip()
            if not piece:
                raise Refused("empty answer")
        return piece

    def _answer(self, prompt: str, seed: str) -> str:
        name = hashlib.sha256(json.dumps([self._model, prompt, seed]).encode()).hexdigest()
        path = self._cache / name[:2] / f"{name}.json"
        try:
            known: str = json.loads(path.read_text(encoding="utf-8"))["answer"]
            return known
        except (OSError, ValueError, KeyError, TypeError):
            answer = self._complete(prompt, int(name[:8], 16))
        path.parent.mkdir(parents=True, exist_ok=True)
        stage.write_text(path, json.dumps({"answer": answer}, ensure_ascii=False))
        return answer


def _pieces(text: str, limit: int) -> list[str]:
    """Whole paragraphs together up to about `limit` characters; a longer paragraph is a piece of its own."""
    pieces: list[str] = []
    for paragraph in filter(str.strip, text.split("\n\n")):
        if pieces and len(pieces[-1]) + len(paragraph) <= limit:
            pieces[-1] += "\n\n" + paragraph
        else:
            pieces.append(paragraph)
    return pieces
