"""Documents of the train split -> further documents made of them, by the methods of the recipe.

    document --hash of (seed, method, source, id)--> drawn or not, and the seed of its random generator
             --method--> another text --same or empty?--> not added, counted
                                      --else--> Document(id#method-copy, metadata: augmented, original)

Invariant: what is added for a document depends on the document and the config only (and on the model's answers where a
model rewrites), never on other documents, parts or workers; validation and test are never touched.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Annotated, Any

from pydantic import Field

from groundup import stage
from groundup.config import digest
from groundup.corpus.augment.endpoint import Endpoint, EndpointConfig, Refused
from groundup.corpus.augment.methods import (
    SentenceDeletionConfig,
    SentenceShuffleConfig,
    SpanNoiseConfig,
    SynonymsConfig,
    SynonymTable,
    read_synonyms,
    sentence_deletion,
    sentence_shuffle,
    span_noise,
    synonyms,
)
from groundup.corpus.augment.rewriting import Complete, RewriteConfig, Rewriter
from groundup.corpus.documents import Document
from groundup.corpus.named_files import find_named
from groundup.errors import DataError

AugmentConfig = Annotated[
    SentenceShuffleConfig | SentenceDeletionConfig | SpanNoiseConfig | SynonymsConfig | RewriteConfig,
    Field(discriminator="kind"),
]
"""One way to make further documents."""
Method = Callable[[str, Random, str], str]
_Further = tuple[list[Document], list[tuple[str, "Added"]]]


@dataclass
class Added:
    """What one method added, and what it could not."""

    documents: int = 0
    characters: int = 0
    bytes: int = 0
    """Of text in UTF-8."""
    unchanged: int = 0
    refused: dict[str, int] = field(default_factory=dict)

    def add(self, other: Added) -> None:
        """Add the counts of `other`."""
        for name in ("documents", "characters", "bytes", "unchanged"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for reason, amount in other.refused.items():
            self.refused[reason] = self.refused.get(reason, 0) + amount


@dataclass(frozen=True)
class Augmentation:
    """The methods of a recipe with the files that they need, read once for all workers."""

    methods: tuple[Any, ...] = ()
    tables: dict[str, SynonymTable] = field(default_factory=dict)
    places: tuple[Path, ...] = ()
    seed: int = 0

    def identity(self) -> list[Any]:
        """All that decides what is added: options without places, and the content of dictionaries."""
        return [self.seed, [_options(method, self.tables, self.places) for method in self.methods]]

    @property
    def concurrent(self) -> int:
        """Documents worked on at once."""
        return max([1, *(m.endpoint.concurrent for m in self.methods if isinstance(m, RewriteConfig) and m.endpoint)])

    @property
    def needs_model(self) -> bool:
        """Whether a model folder is to be run."""
        return any(isinstance(method, RewriteConfig) and method.model_folder for method in self.methods)


def _model_files(method: RewriteConfig, places: tuple[Path, ...]) -> list[Path]:
    """Files that make up a model. Raises DataError when there are none."""
    folder = model_folder(method, places)
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors", ".jinja"))
    if not files:
        raise DataError(f"{folder}: no model in this folder; correct model_folder of corpus.augment '{method.name}'")
    return files


def model_folder(method: RewriteConfig, places: tuple[Path, ...]) -> Path:
    """The first place's folder of that name. Raises DataError when there is none."""
    return find_named(
        method.model_folder, places, "folder", f"model_folder of corpus.augment '{method.name}'", Path.is_dir
    )


def _options(method: Any, tables: dict[str, SynonymTable], places: tuple[Path, ...]) -> dict[str, Any]:
    values: dict[str, Any] = method.model_dump(mode="json")
    if isinstance(method, SynonymsConfig):
        del values["path"]
        values["content"] = digest({word: list(others) for word, others in tables[method.name].entries.items()})
    if isinstance(method, RewriteConfig):
        del values["cache"]
        if method.endpoint:
            values["endpoint"] = method.endpoint.model
        else:
            values["model_folder"] = [[path.name, stage.hash_file(path)] for path in _model_files(method, places)]
    return values


def load_augmentation(methods: tuple[Any, ...], seed: int, places: tuple[Path, ...]) -> Augmentation:
    """The methods with their dictionaries. Raises DataError when one cannot be read."""
    tables = {method.name: read_synonyms(method, places) for method in methods if isinstance(method, SynonymsConfig)}
    return Augmentation(methods, tables, places, seed)


class Augmenter:
    """Makes further documents; `added`: method -> what it added."""

    def __init__(self, augmentation: Augmentation, cache: Path, complete: Callable[[RewriteConfig], Complete] | None):
        self._augmentation = augmentation
        self.added = {method.name: Added() for method in augmentation.methods}
        self._methods: list[tuple[Any, Method]] = [
            (method, _function_of(method, augmentation, cache, complete)) for method in augmentation.methods
        ]

    def over(self, documents: Iterable[Document]) -> Iterator[tuple[Document, list[Document]]]:
        """Each document with those that are added for it, in order; some ahead while servers are waited for."""
        ahead = self._augmentation.concurrent
        if ahead == 1:
            for document in documents:
                yield document, self._counted(self._further(document))
            return
        waiting: deque[tuple[Document, Future[_Further]]] = deque()
        with ThreadPoolExecutor(ahead) as threads:
            try:
                for document in documents:
                    waiting.append((document, threads.submit(self._further, document)))
                    if len(waiting) > ahead:
                        first, further = waiting.popleft()
                        yield first, self._counted(further.result())
                for first, further in waiting:
                    yield first, self._counted(further.result())
            finally:
                threads.shutdown(wait=False, cancel_futures=True)

    def _counted(self, further: _Further) -> list[Document]:
        documents, added = further
        for name, counts in added:
            self.added[name].add(counts)
        return documents

    def _further(self, document: Document) -> _Further:
        documents: list[Document] = []
        counts: list[tuple[str, Added]] = []
        for config, method in self._methods:
            if config.sources and document.source not in config.sources:
                continue
            key = f"{self._augmentation.seed}:{config.name}:{document.source}/{document.id}"
            if _draw(key) >= config.fraction:
                continue
            for copy in range(config.copies):
                text, added = _made(method, document.text, f"{key}:{copy}")
                counts.append((config.name, added))
                if text:
                    made = {"augmented": config.name, "original": document.id}
                    name = f"{document.id}#{config.name}-{copy}"
                    documents.append(Document(name, text, document.source, {**document.metadata, **made}))
        return documents, counts


def _made(method: Method, text: str, key: str) -> tuple[str, Added]:
    """Another text, or "" when there is none; and what is to be counted."""
    try:
        other = method(text, Random(_seed(key)), key)  # noqa: S311 - no secret hangs on it
    except Refused as refused:
        return "", Added(refused={refused.reason: 1})
    if not other.strip() or other == text:
        return "", Added(unchanged=1)
    return other, Added(documents=1, characters=len(other), bytes=len(other.encode()))


def _server(config: RewriteConfig, endpoint: EndpointConfig, augmentation: Augmentation) -> Endpoint:
    whose = f"corpus.augment '{config.name}': the same command goes on"
    return Endpoint(
        endpoint, augmentation.places, temperature=config.temperature, max_tokens=config.max_tokens, whose=whose
    )


def _function_of(
    config: Any, augmentation: Augmentation, cache: Path, complete: Callable[[RewriteConfig], Complete] | None
) -> Method:
    if isinstance(config, RewriteConfig):
        answers = _server(config, config.endpoint, augmentation) if config.endpoint else _model(config, complete)
        rewriter = Rewriter(config, answers, _cache_folder(config, augmentation.places, cache))
        return lambda text, random, key: rewriter.rewrite(text, key)
    if isinstance(config, SynonymsConfig):
        table = augmentation.tables[config.name]
        return lambda text, random, key: synonyms(config, table, text, random)
    functions: dict[type[Any], Callable[..., str]] = {
        SentenceShuffleConfig: sentence_shuffle,
        SentenceDeletionConfig: sentence_deletion,
        SpanNoiseConfig: span_noise,
    }
    function = partial(functions[type(config)], config)
    return lambda text, random, key: function(text, random)


def _model(config: RewriteConfig, complete: Callable[[RewriteConfig], Complete] | None) -> Complete:
    assert complete is not None, "a model folder needs the function that runs it"
    return complete(config)


def _cache_folder(config: RewriteConfig, places: tuple[Path, ...], default: Path) -> Path:
    return places[-1] / Path(config.cache).expanduser() if config.cache else default


def _seed(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")


def _draw(key: str) -> float:
    """A number in [0, 1) that the key decides."""
    return (_seed(key) >> 11) / (1 << 53)
