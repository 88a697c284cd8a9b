"""Reads the footers of Parquet objects that others wrote."""

import builtins
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from flight_server.errors import FailedPreconditionError, NotFoundError
from flight_server.objects.schema import storable_schema
from flight_server.objects.store import ObjectStore


@dataclass(frozen=True, slots=True)
class Footer:
    """What a footer says: rows, the object's size, and its Arrow schema as an IPC message."""

    rows: int
    bytes: int
    schema: builtins.bytes


def inspect(store: ObjectStore, key: str) -> Footer | None:
    """Read one footer; None when there is no such object.

    Raises FailedPreconditionError when the object is not Parquet, InvalidArgumentError when its
    columns cannot be served.
    """
    try:
        with store.open(key) as source:
            size = source.size()
            footer = pq.read_metadata(source)
            schema = storable_schema(footer.schema.to_arrow_schema()).serialize().to_pybytes()
    except NotFoundError:
        return None
    except (pa.ArrowException, OSError) as error:
        raise FailedPreconditionError(f"object {key!r} of bucket {store.bucket} is not Parquet") from error
    return Footer(footer.num_rows, size, schema)
