"""The one door to LanceDB: it is imported when first needed, and each bucket has its own session.

Importing it takes about a second and 70 MB, which a server without vectors does not pay.
"""

import importlib
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flight_server.domain import faults
from flight_server.domain.storage_failure import storage_failure
from flight_server.errors import LakehouseError

Place = Callable[[str], tuple[str, Mapping[str, str]]]
"""Bucket → the URI of the folder that holds its indexes, and the options of its storage."""

_POLITE_SECONDS = 2e-4
"""How long the import of the library keeps the interpreter from others at a time; it is 0.5 s of Python."""

_OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""How LanceDB's own errors tell what the operating system said."""


class Lance:
    """Connections to the Lance tables of buckets. `_lock` guards the connections."""

    def __init__(self, place: Place, cache_bytes: int) -> None:
        self._place = place
        self._cache_bytes = cache_bytes
        self._lock = threading.Lock()
        self._connections: dict[str, Any] = {}

    def preload(self) -> None:
        """Import the library, so that the first search does not wait for it.

        Searches that run meanwhile get their turn sooner than the interpreter would give it to them.
        """
        usual = sys.getswitchinterval()
        sys.setswitchinterval(_POLITE_SECONDS)
        try:
            library()
        finally:
            sys.setswitchinterval(usual)

    def connection(self, bucket: str) -> Any:
        """Return the connection of a bucket, with a session of its own; `forget` drops both."""
        with self._lock:
            if bucket not in self._connections:
                uri, options = self._place(bucket)
                session = library().Session(
                    index_cache_size_bytes=self._cache_bytes, metadata_cache_size_bytes=self._cache_bytes // 8
                )
                self._connections[bucket] = library().connect(
                    uri, session=session, storage_options=dict(options) or None
                )
            return self._connections[bucket]

    def table(self, bucket: str, name: str, version: int | None = None) -> Any:
        """Open a table, at a version if one is given; whatever is wrong with it is raised as LanceDB does."""
        faults.operate()
        table = self.connection(bucket).open_table(name)
        if version is not None and table.version != version:
            table.checkout(version)
        return table

    def forget(self, bucket: str) -> None:
        """Let go of what a bucket's session caches; tables that are open keep theirs."""
        with self._lock:
            self._connections.pop(bucket, None)

    def folder(self, bucket: str) -> Path | None:
        """Return the folder of a bucket's indexes when it is one of this machine."""
        uri = self._place(bucket)[0]
        return None if "://" in uri else Path(uri)


@contextmanager
def storing(bucket: str) -> Iterator[None]:
    """Raise what storage says to LanceDB as one of our errors, without the path that it carries."""
    try:
        faults.operate()
        yield
    except LakehouseError:
        raise
    except OSError as error:
        raise storage_failure(bucket, error.errno) from error
    except RuntimeError as error:
        found = _OS_ERROR.search(str(error))
        if found is None:
            raise
        raise storage_failure(bucket, int(found[1])) from error


def library() -> Any:
    """Return LanceDB."""
    return importlib.import_module("lancedb")


def in_memory() -> Any:
    """Return a connection to tables that nobody else sees and that end with it."""
    return library().connect("memory://")


def words_query(text: str, column: str) -> Any:
    """Return the query for the words of a text: quotes and operators in it mean nothing."""
    return importlib.import_module("lancedb.query").MatchQuery(text, column)


def configuration(name: str, arguments: Mapping[str, object]) -> Any:
    """Return how to build an index, by the name of LanceDB's class. Raises ValueError, TypeError."""
    return getattr(importlib.import_module("lancedb.index"), name)(**arguments)
