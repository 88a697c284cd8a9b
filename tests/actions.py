"""Actions of a server through a plain `pyarrow.flight` client: JSON in, JSON out."""

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight


def act_all(client: Any, name: str, /, **body: Any) -> list[dict[str, Any]]:
    """Run an action and return all its results."""
    results = client.do_action(flight.Action(name, json.dumps(body).encode()))
    return [json.loads(result.body.to_pybytes()) for result in results]


def act(client: Any, name: str, /, **body: Any) -> dict[str, Any]:
    """Run an action and return its last result."""
    return act_all(client, name, **body)[-1]


def put(client: Any, path: Sequence[str], table: pa.Table, **headers: str) -> None:
    """Load a table into a dataset by path; `mode="append"` becomes the header x-lakehouse-mode."""
    sent = [(f"x-lakehouse-{name}".encode(), value.encode()) for name, value in headers.items()]
    descriptor = flight.FlightDescriptor.for_path(*path)
    writer, reader = client.do_put(descriptor, table.schema, flight.FlightCallOptions(headers=sent))
    with writer:
        writer.write_table(table)
        writer.done_writing()
        reader.read()


def vectors(rows: Sequence[Sequence[float]]) -> "pa.Array[Any]":
    """Return vectors as a column of FIXED_SIZE_LIST<float32>."""
    flat = pa.array([value for row in rows for value in row], pa.float32())
    return pa.FixedSizeListArray.from_arrays(flat, len(rows[0]))
