"""An HTTP endpoint as an embedder, in the form that OpenAI has made common: POST <url>/embeddings.

Source: OpenAI's API reference, "Create embeddings". Errors name the embedder and what to look at; neither key
nor answer is in them.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import urllib3

from flight_server.errors import FailedPreconditionError, UnavailableError

_RETRIES = urllib3.Retry(
    total=4,
    connect=1,
    redirect=0,
    backoff_factor=0.3,
    status_forcelist=(408, 429, 500, 502, 503, 504),
    allowed_methods=None,
    raise_on_status=False,
)
_PATH = "/embeddings"
_PROBE = "dimensions"

_REASONS: Mapping[int, str] = {
    401: "it does not accept the key: check api_key",
    403: "it does not accept the key: check api_key",
    404: "there is nothing at this address, or no such model: check url and model",
    429: "it takes no more requests now: try again later, or with a smaller batch",
}


class EndpointEmbedder:
    """Asks an endpoint for vectors, some texts at once; what fails for a moment is asked again."""

    metric = "cosine"

    def __init__(
        self, name: str, url: str, model: str, api_key: str | None, *, batch: int, timeout: float
    ) -> None:
        self.name = name
        self._url = url.rstrip("/") if url.rstrip("/").endswith(_PATH) else url.rstrip("/") + _PATH
        self._model = model
        self._batch = batch
        headers = {"content-type": "application/json", "accept": "application/json"}
        if api_key:
            headers["authorization"] = f"Bearer {api_key}"
        self._pool = urllib3.PoolManager(headers=headers, retries=_RETRIES, timeout=urllib3.Timeout(timeout))
        self.ndims = self._asked([_PROBE]).shape[1]

    def embed(self, texts: list[str]) -> "pa.FixedSizeListArray[Any, Any]":
        """Return the endpoint's vectors. Raises UnavailableError, FailedPreconditionError."""
        parts = [self._asked(texts[at : at + self._batch]) for at in range(0, len(texts), self._batch)]
        if any(part.shape[1] != self.ndims for part in parts):
            raise self._failure(f"its vectors no longer have {self.ndims} dimensions")
        flat = np.concatenate(parts).ravel() if parts else np.empty(0, np.float32)
        return pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float32()), self.ndims)

    def _asked(self, texts: list[str]) -> "np.ndarray[Any, np.dtype[np.float32]]":
        body = json.dumps({"model": self._model, "input": texts}).encode()
        try:
            answer = self._pool.request("POST", self._url, body=body)
        except urllib3.exceptions.HTTPError as error:
            reason = getattr(error, "reason", None) or error
            raise UnavailableError(
                f"embedder {self.name}: its endpoint does not answer ({type(reason).__name__}); try again"
            ) from None
        if answer.status >= 500:
            raise UnavailableError(f"embedder {self.name}: its endpoint answers {answer.status}; try again")
        if answer.status != 200:
            reason = _REASONS.get(answer.status, "it refuses the request: check url and model")
            raise self._failure(f"its endpoint answers {answer.status}, {reason}")
        return self._vectors(answer.data, len(texts))

    def _vectors(self, answer: bytes, count: int) -> "np.ndarray[Any, np.dtype[np.float32]]":
        try:
            rows = sorted(json.loads(answer)["data"], key=lambda row: row["index"])
            found = np.asarray([row["embedding"] for row in rows], np.float32)
        except (ValueError, TypeError, KeyError) as error:
            raise self._failure("its endpoint does not answer as OpenAI's does") from error
        if found.ndim != 2 or len(found) != count or not found.shape[1]:
            raise self._failure(f"its endpoint does not answer with {count} vectors")
        return found

    def _failure(self, what: str) -> FailedPreconditionError:
        return FailedPreconditionError(f"embedder {self.name}: {what}")
