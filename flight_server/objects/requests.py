"""The requests that only concern objects: each is answered with one or more frames."""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeAlias

from flight_server.frames.frame import Frame, with_parts
from flight_server.objects.inspect import inspect
from flight_server.objects.store import ObjectStore

StoreOf: TypeAlias = Callable[[str], ObjectStore]
"""Returns the objects of a bucket by its name. Raises NotFoundError."""

_PAGE_OBJECTS = 1_000


def _inspect(store: StoreOf, request: Frame) -> Iterator[Frame]:
    """Read the footers of Parquet objects; answer null for each one that is missing."""
    found = [inspect(store(bucket), key) for bucket, key in request.fields["objects"]]
    fields: list[Any] = [footer and {"rows": footer.rows, "bytes": footer.bytes} for footer in found]
    schemas = [footer.schema if footer else b"" for footer in found]
    yield with_parts("inspected", {"objects": fields}, schemas)


def _list(store: StoreOf, request: Frame) -> Iterator[Frame]:
    """List what lies under a key; answer page by page."""
    listed = store(request.fields["bucket"]).list(request.fields["key"])
    rows = ([item.key, item.bytes, item.age] for item in listed)
    while page := [*islice(rows, _PAGE_OBJECTS)]:
        yield Frame("page", {"objects": page})
    yield Frame("end")


def _missing(store: StoreOf, request: Frame) -> Iterator[Frame]:
    """Tell which keys lead to no object."""
    bucket = store(request.fields["bucket"])
    yield Frame("lacking", {"keys": [key for key in request.fields["keys"] if not bucket.exists(key)]})


def _delete(store: StoreOf, request: Frame) -> Iterator[Frame]:
    """Remove objects that never became part of a commit."""
    bucket = store(request.fields["bucket"])
    for key in request.fields["keys"]:
        bucket.delete(key)
    yield Frame("deleted")


def _clear(store: StoreOf, request: Frame) -> Iterator[Frame]:
    """Remove the indexes of a bucket that is no more, and the folders in which its objects were."""
    store(request.fields["bucket"]).clear()
    yield Frame("cleared")


OBJECT_REQUESTS: Mapping[str, Callable[[StoreOf, Frame], Iterator[Frame]]] = {
    "inspect": _inspect,
    "list": _list,
    "missing": _missing,
    "delete": _delete,
    "clear": _clear,
}
"""Kind of the request → what yields its answers."""
