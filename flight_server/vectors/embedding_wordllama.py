"""WordLlama as an embedder: small static embeddings in the package itself, so nothing is downloaded."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from flight_server.domain.embedding import WORDLLAMA
from flight_server.errors import FailedPreconditionError


class WordllamaEmbedder:
    """Makes vectors of 256 dimensions on one core; made in some seconds, with about 100 MB."""

    name = WORDLLAMA
    metric = "cosine"

    def __init__(self) -> None:
        try:
            library: Any = importlib.import_module("wordllama")
        except ImportError as error:
            raise FailedPreconditionError(
                f"embedder {WORDLLAMA} is not installed on the server: pip install 'flight-server[text]'"
            ) from error
        own = Path(library.__file__).parent
        self._model = library.WordLlama.load(cache_dir=own, disable_download=True)
        self.ndims = int(self._model.embed("a").shape[1])

    def embed(self, texts: list[str]) -> "pa.FixedSizeListArray[Any, Any]":
        """Return unit vectors; a text without any token of the model has one of length 0."""
        vectors = np.nan_to_num(np.asarray(self._model.embed(texts), np.float32).reshape(len(texts), -1))
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
        return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), vectors.shape[1])
