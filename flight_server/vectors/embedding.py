"""Embedders make vectors of texts: one that is installed, one of your own, or an endpoint.

They are known by the names that the configuration gives them; what a client writes never chooses code.
"""

import importlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from flight_server.domain.embedding import WORDLLAMA
from flight_server.errors import FailedPreconditionError, InvalidArgumentError, LakehouseError
from flight_server.vectors.embedding_endpoint import EndpointEmbedder
from flight_server.vectors.embedding_wordllama import WordllamaEmbedder
from flight_server.vectors.source import Floats


class Embedder(Protocol):
    """Makes vectors of texts; called by many threads at once.

    `name` is the one in messages, `ndims` the length of its vectors, `metric` the one that they are made for.
    """

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def ndims(self) -> int:
        """How many dimensions its vectors have."""

    @property
    def metric(self) -> str:
        """`cosine`, `dot` or `l2`."""

    def embed(self, texts: list[str]) -> "pa.FixedSizeListArray[Any, Any]":
        """Return a vector of float32 for each text; one of length 0 or with NaN says that it has none."""


class Embedders:
    """The embedders of a process by name; each is made when it is first needed, under `_lock`."""

    def __init__(self, configured: Mapping[str, Mapping[str, Any]]) -> None:
        self._configured = configured
        self._lock = threading.Lock()
        self._made: dict[str, Embedder] = {}

    def get(self, name: str) -> Embedder:
        """Return an embedder. Raises FailedPreconditionError when it is not configured or cannot be made."""
        with self._lock:
            if name not in self._made:
                self._made[name] = self._make(name)
            return self._made[name]

    def _make(self, name: str) -> Embedder:
        settings = self._configured.get(name)
        if settings is not None:
            return _factory(name, settings) if settings["factory"] else _endpoint(name, settings)
        if name == WORDLLAMA:
            return WordllamaEmbedder()
        known = ", ".join(sorted({*self._configured, WORDLLAMA}))
        raise FailedPreconditionError(
            f"embedder {name!r:.80} is not configured here; there are: {known}. "
            f"Configure it as [embedders.{name[:80]}]"
        )

    def vectors(self, name: str, texts: Sequence[str]) -> Floats:
        """Return the vectors [texts, dim] of texts; those of texts that have none are NaN.

        Raises FailedPreconditionError, UnavailableError.
        """
        embedder = self.get(name)
        try:
            found = embedder.embed(list(texts))
        except LakehouseError:
            raise
        except Exception as error:  # code of others
            raise FailedPreconditionError(f"embedder {name} failed: {type(error).__name__}") from error
        return _checked(embedder, found, len(texts))

    def query(self, name: str, texts: Sequence[str]) -> Floats:
        """Return the vectors of texts to search for. Raises InvalidArgumentError for one that has none."""
        found = self.vectors(name, texts)
        for text, vector in zip(texts, found, strict=True):
            if not text.strip() or np.isnan(vector[0]):
                raise InvalidArgumentError(f"embedder {name} makes no vector of the text {text!r:.80}")
        return found


def _checked(embedder: Embedder, found: Any, count: int) -> Floats:
    kind = getattr(found, "type", None)
    wanted = pa.list_(pa.float32(), embedder.ndims)
    if kind != wanted or len(found) != count or found.null_count:
        raise FailedPreconditionError(
            f"embedder {embedder.name} must return {count} vectors as {wanted}, it returned {kind}"
        )
    vectors: Floats = found.flatten().to_numpy().reshape(count, embedder.ndims).copy()
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.einsum("ij,ij->i", vectors, vectors)
    vectors[~np.isfinite(lengths) | (lengths == 0)] = np.nan
    return vectors


def _factory(name: str, settings: Mapping[str, Any]) -> Embedder:
    module, _, attribute = settings["factory"].partition(":")
    try:
        made: Any = importlib.import_module(module)
        for part in attribute.split("."):
            made = getattr(made, part)
        factory: Callable[[], Embedder] = made
        return factory()
    except Exception as error:  # code of others
        raise FailedPreconditionError(
            f"embedder {name} cannot be made by {settings['factory']!r} ({type(error).__name__}): it must be "
            "a callable without arguments that returns an embedder"
        ) from error


def _endpoint(name: str, settings: Mapping[str, Any]) -> Embedder:
    return EndpointEmbedder(
        name,
        settings["url"],
        settings["model"],
        settings["api_key"],
        batch=settings["batch"],
        timeout=settings["timeout"],
    )
