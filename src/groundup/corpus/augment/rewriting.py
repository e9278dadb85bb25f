"""Documents rewritten by a language model: paraphrase or back-translation, through an endpoint or a model folder.

    text -> pieces of whole paragraphs -> prompts -> answers (kept in a cache, one file each) -> pieces joined

The endpoint speaks OpenAI's `POST /chat/completions`. A model folder is run by a function that a higher room gives
(`Complete`), because this room knows no networks.

Invariant: an answer in the cache is never asked for again, so a killed run goes on where it was; no request waits
longer than its timeout, no answer is read beyond ANSWER_LIMIT_BYTES, and no redirect is followed.
"""

from __future__ import annotations

import hashlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from groundup import stage
from groundup.config import Config, digest
from groundup.corpus.augment.methods import MethodConfig
from groundup.corpus.named_files import find_named
from groundup.errors import ResourceError

Complete = Callable[[str, int], str]
"""Prompt and seed -> answer. Raises Refused when there is none for this prompt."""
ANSWER_LIMIT_BYTES = 8 << 20
_RETRIED = {408, 409, 425, 429, 500, 502, 503, 504}
_PARAPHRASE = (
    "Rewrite the following text in other words, in the same language, keeping every fact. Answer with the text only."
)
_TRANSLATE = "Translate the following text into {language}. Answer with the translation only."


class EndpointConfig(Config):
    """An OpenAI-compatible server."""

    url: str
    """Base address, such as `http://localhost:8000/v1`."""
    model: str = Field(min_length=1)
    """Model that the server is asked for."""
    api_key_file: str = ""
    """File that holds the key, where the server wants one; relative to the current or the recipe's folder."""
    timeout_seconds: float = Field(default=120.0, gt=0)
    """Longest wait for an answer."""
    attempts: int = Field(default=5, ge=1, le=20)
    """Tries of one request, with waits of 1, 2, 4... seconds, while the server is busy or gone."""
    concurrent: int = Field(default=4, ge=1, le=256)
    """Documents on their way to the server at once, in each worker process."""

    @field_validator("url")
    @classmethod
    def _is_web_address(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return url.rstrip("/")


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


class Refused(Exception):
    """The model gave no usable answer for one text; `reason` is counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


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


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *given: Any) -> None:
        return None


class Endpoint:
    """Asks an OpenAI-compatible server."""

    def __init__(self, config: RewriteConfig, places: tuple[Path, ...], wait: Callable[[float], None] = time.sleep):
        assert config.endpoint is not None
        self._config, self._endpoint, self._wait = config, config.endpoint, wait
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._key = _read_key(self._endpoint.api_key_file, places) if self._endpoint.api_key_file else ""

    def __call__(self, prompt: str, seed: int) -> str:
        """The answer. Raises Refused when there is none for this prompt, ResourceError when the server stays away."""
        problem = ""
        for attempt in range(self._endpoint.attempts):
            if attempt:
                self._wait(min(2.0 ** (attempt - 1), 60.0))
            try:
                with self._opener.open(self._request(prompt, seed), timeout=self._endpoint.timeout_seconds) as response:
                    return _content(response.read(ANSWER_LIMIT_BYTES + 1))
            except urllib.error.HTTPError as error:
                error.close()
                problem = f"HTTP {error.code}"
                if error.code in (401, 403, 404) or 300 <= error.code < 400:
                    break
                if error.code not in _RETRIED:
                    raise Refused(problem) from None
            except (OSError, TimeoutError) as error:
                problem = str(getattr(error, "reason", error)) or type(error).__name__
        raise ResourceError(
            f"{self._endpoint.url}: no answer ({problem[:60]}); check the server and corpus.augment "
            f"'{self._config.name}': the same command goes on"
        )

    def _request(self, prompt: str, seed: int) -> urllib.request.Request:
        body = {
            "model": self._endpoint.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": self._config.temperature,
            "max_tokens": self._config.max_tokens,
            "seed": seed,
        }
        headers = {
            "Content-Type": "application/json",
            **({"Authorization": f"Bearer {self._key}"} if self._key else {}),
        }
        url = f"{self._endpoint.url}/chat/completions"  # http or https: the config refuses all others
        return urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310


def _content(data: bytes) -> str:
    if len(data) > ANSWER_LIMIT_BYTES:
        raise Refused("answer too long")
    try:
        content = json.loads(data)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        raise Refused("answer is no chat completion") from None
    if not isinstance(content, str):
        raise Refused("answer without text")
    return content.encode("utf-8", "replace").decode()


def _read_key(name: str, places: tuple[Path, ...]) -> str:
    path = find_named(name, places, "file", "api_key_file: it names the file that holds the server's key")
    return path.read_text(encoding="utf-8").strip()
