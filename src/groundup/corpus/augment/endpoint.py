"""A prompt -> the answer of an OpenAI-compatible server (`POST /chat/completions`).

Invariant: no request waits longer than its timeout, none is tried more often than the config says, no answer is read
beyond ANSWER_LIMIT_BYTES, and no redirect is followed, so a key goes to no other server.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from groundup.config import Config
from groundup.corpus.named_files import find_named
from groundup.errors import ResourceError

ANSWER_LIMIT_BYTES = 8 << 20
_RETRIED = {408, 409, 425, 429, 500, 502, 503, 504}


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


class Refused(Exception):
    """The model gave no usable answer for one text; `reason` is counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *given: Any) -> None:
        return None


class Endpoint:
    """Asks an OpenAI-compatible server.

    `places`: folders where `api_key_file` is looked for; `key`: the key itself, where there is no file; `whose`: what a
    user has to look at when the server stays away.
    """

    def __init__(
        self,
        config: EndpointConfig,
        places: Sequence[Path],
        *,
        temperature: float,
        max_tokens: int,
        whose: str,
        key: str = "",
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._config, self._whose, self._wait = config, whose, wait
        self._settings = {"temperature": temperature, "max_tokens": max_tokens}
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._key = _read_key(config.api_key_file, tuple(places)) if config.api_key_file else key

    def __call__(self, prompt: str, seed: int) -> str:
        """The answer. Raises Refused when there is none for this prompt, ResourceError when the server stays away."""
        problem = ""
        for attempt in range(self._config.attempts):
            if attempt:
                self._wait(min(2.0 ** (attempt - 1), 60.0))
            try:
                with self._opener.open(self._request(prompt, seed), timeout=self._config.timeout_seconds) as response:
                    return _content(response.read(ANSWER_LIMIT_BYTES + 1))
            except urllib.error.HTTPError as error:
                error.close()
                problem = f"HTTP {error.code}"
                if error.code in (401, 403, 404) or 300 <= error.code < 400:
                    break
                if error.code not in _RETRIED:
                    raise Refused(problem) from None
            except (OSError, TimeoutError, http.client.HTTPException) as error:
                problem = str(getattr(error, "reason", error)) or type(error).__name__
        raise ResourceError(f"{self._config.url}: no answer ({problem[:60]}); check the server and {self._whose}")

    def _request(self, prompt: str, seed: int) -> urllib.request.Request:
        body = {
            "model": self._config.model,
            "messages": [{"role": "user", "content": prompt}],
            **self._settings,
            "seed": seed,
        }
        headers = {
            "Content-Type": "application/json",
            **({"Authorization": f"Bearer {self._key}"} if self._key else {}),
        }
        url = f"{self._config.url}/chat/completions"  # http or https: the config refuses all others
        return urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310


def _content(data: bytes) -> str:
    if len(data) > ANSWER_LIMIT_BYTES:
        raise Refused("answer too long")
    try:
        content = json.loads(data)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        raise Refused("answer is no chat completion") from None
    if not isinstance(content, str):
        raise Refused("answer without text")
    return content.encode("utf-8", "replace").decode()


def _read_key(name: str, places: tuple[Path, ...]) -> str:
    path = find_named(name, places, "file", "api_key_file: it names the file that holds the server's key")
    return path.read_text(encoding="utf-8").strip()
