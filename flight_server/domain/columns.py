"""How the columns of an upload or an object fit those of a dataset."""

from collections.abc import Iterable
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.types as pat

from flight_server.domain import declarations

MAX_COLUMNS = 10_000
"""Columns of the widest dataset."""

Kind: TypeAlias = Any
"""An Arrow type; the stubs give each kind a class of its own, which a table of tests cannot use."""

Field: TypeAlias = "pa.Field[Any]"


def widens(source: Kind, target: Kind) -> bool:
    """Tell whether every value of `source` has a place in `target`."""
    if source.equals(target):
        return True
    if pat.is_integer(source) and pat.is_integer(target):
        same_sign = pat.is_signed_integer(source) == pat.is_signed_integer(target)
        fits = source.bit_width <= target.bit_width if same_sign else source.bit_width < target.bit_width
        return fits and (same_sign or pat.is_signed_integer(target))
    if pat.is_floating(source) and pat.is_floating(target):
        return source.bit_width <= target.bit_width
    return False


def by_name(schema: pa.Schema) -> dict[str, Field]:
    """Return the columns under the names by which SQL tells them apart."""
    return {field.name.lower(): field for field in schema}


def differences(offered: pa.Schema, wanted: pa.Schema, what: str) -> list[str]:
    """Say column by column why `offered`, the columns of `what`, do not fit `wanted`; empty when they do."""
    found = [
        f"column {field.name!r} is not in the dataset"
        for name, field in by_name(offered).items()
        if name not in by_name(wanted)
    ]
    own = by_name(offered)
    for name, field in by_name(wanted).items():
        if name not in own:
            found.append(f"column {field.name!r} ({field.type}) is missing")
        elif not widens(own[name].type, field.type):
            found.append(f"column {field.name!r} is {field.type}, {what} has {own[name].type}")
    return found


def conflicts(offered: pa.Schema, wanted: pa.Schema, what: str) -> list[str]:
    """Say why `offered` cannot be appended to `wanted` even when either may have columns of its own."""
    own = by_name(offered)
    found = [
        f"column {field.name!r} is {field.type}, {what} has {own[name].type}"
        for name, field in by_name(wanted).items()
        if name in own and not widens(own[name].type, field.type)
    ]
    return found + [
        f"column {field.name!r} ({field.type}) takes no NULL and is missing"
        for name, field in by_name(wanted).items()
        if name not in own and not field.nullable
    ]


def union(wanted: pa.Schema, offered: pa.Schema) -> pa.Schema:
    """Return `wanted` with the further columns of `offered` behind its own.

    A column that only one of the two has may be NULL.
    """
    own, known = by_name(offered), by_name(wanted)
    kept = [field if name in own else field.with_nullable(True) for name, field in known.items()]
    further = [field.with_nullable(True) for name, field in own.items() if name not in known]
    known_metadata: dict[Any, Any] | None = wanted.metadata
    return declarations.added(pa.schema(kept, known_metadata), further)


def merged(wanted: bytes, offered: bytes) -> bytes:
    """Return the union of two schemas that are encapsulated IPC messages."""
    schemas = (pa.ipc.read_schema(pa.py_buffer(message)) for message in (wanted, offered))
    return union(*schemas).serialize().to_pybytes()


def unified(messages: Iterable[bytes]) -> bytes | None:
    """Return one schema for objects that were written with several, the oldest first; None for no object.

    It has the columns of all. Of two types the wider one counts, or the newer where neither is wider:
    reading casts the others.
    """
    found: pa.Schema | None = None
    for message in dict.fromkeys(messages):
        schema = pa.ipc.read_schema(pa.py_buffer(message))
        found = schema if found is None else _joined(found, schema)
    return None if found is None else found.serialize().to_pybytes()


def _joined(older: pa.Schema, newer: pa.Schema) -> pa.Schema:
    own = by_name(newer)
    kept = [
        field.with_type(own[name].type) if name in own and not widens(own[name].type, field.type) else field
        for name, field in by_name(older).items()
    ]
    return union(pa.schema(kept), newer)
