"""What a statement is told when it asks SQL what there is: relations that only an engine process reads.

They show what the statement sees: its caller's buckets, at its snapshot, with what its transaction staged.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa

from flight_server.domain import declarations
from flight_server.domain.dataset import Dataset, DatasetFilter, Kind
from flight_server.domain.identity import Identity
from flight_server.domain.staging import Snapshot
from flight_server.frames.requests import LISTED_NAMES, LISTED_SESSION, LISTED_TABLES, SystemPage
from flight_server.services.listing import datasets
from flight_server.services.resolution import Names
from flight_server.services.system_tables import SYSTEM_SCHEMA, SYSTEM_TABLES

_PAGE_DATASETS = 1_000


def _schema(**columns: Any) -> pa.Schema:
    return pa.schema([pa.field(name, kind) for name, kind in columns.items()])


_SESSION = _schema(
    principal=pa.utf8(),
    current_schema=pa.utf8(),
    search_path=pa.list_(pa.utf8()),
    namespaces=pa.list_(pa.utf8()),
    options=pa.map_(pa.utf8(), pa.utf8()),
)
_NAMES = _schema(namespace=pa.utf8(), name=pa.utf8(), id=pa.utf8(), is_view=pa.bool_(), definition=pa.utf8())
_TABLES = pa.schema([*_NAMES, *_schema(rows=pa.int64(), schema=pa.binary())])


@dataclass(frozen=True, slots=True)
class View:
    """From where a statement looks: whose it is, where it looks for bare names, and at what.

    `options` tells those of its session that have a value.
    """

    identity: Identity
    search_path: Sequence[str]
    snapshot: Snapshot
    options: Callable[[], Mapping[str, str]] = dict


class Introspection:
    """Answers one statement's questions, page by page."""

    def __init__(self, names: Names, view: View) -> None:
        self._names = names
        self._view = view
        self._found: Iterator[Dataset] = iter(())

    def page(self, relation: str, after: int | None) -> SystemPage:
        """Return a page of one of the relations; pages are asked for in order, `after` counts them."""
        schema, rows, following = _READS[relation](self, after)
        columns = list(zip(*rows, strict=True)) or [()] * len(schema)
        arrays = [pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)]
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as writer:
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
        return SystemPage(sink.getvalue().to_pybytes(), following)

    def _namespaces(self) -> list[str]:
        spaces = self._names.namespaces(self._view.identity, self._view.snapshot)
        return sorted(space.name for space in spaces)

    def _session(self, _after: int | None) -> "_Page":
        path = list(self._view.search_path)
        namespaces = sorted([*self._namespaces(), SYSTEM_SCHEMA])
        options = list(self._view.options().items())
        return (
            _SESSION,
            [(self._view.identity.name, path[0] if path else None, path, namespaces, options)],
            None,
        )

    def _listed(self, after: int | None) -> "_Page":
        page, following = self._next(after)
        rows = [_row(item) for item in page]
        if after is None:
            rows += [_system_row(name) for name in SYSTEM_TABLES]
        return _NAMES, rows, following

    def _tables(self, after: int | None) -> "_Page":
        page, following = self._next(after)
        totals = self._names.catalog.totals(self._view.snapshot.commit, [item.id for item in page])
        spaces = frozenset(self._namespaces())
        rows: list[tuple[Any, ...]] = [
            (
                *_row(item),
                totals[item.id].rows if item.id in totals else None,
                None if item.schema is None else declarations.seen_from(item.schema, spaces),
            )
            for item in page
        ]
        if after is None:
            rows += [
                (*_system_row(name), None, table.schema.serialize().to_pybytes())
                for name, table in SYSTEM_TABLES.items()
            ]
        return _TABLES, rows, following

    def _next(self, after: int | None) -> tuple[list[Dataset], int | None]:
        if after is None:
            wanted = DatasetFilter(tuple(self._namespaces()))
            self._found = datasets(self._names, self._view.snapshot, wanted)
        page = list(islice(self._found, _PAGE_DATASETS))
        return page, (after or 0) + 1 if len(page) == _PAGE_DATASETS else None


_Page = tuple[pa.Schema, Sequence[tuple[Any, ...]], int | None]

_READS: Mapping[str, Callable[[Introspection, int | None], _Page]] = {
    LISTED_SESSION: Introspection._session,
    LISTED_NAMES: Introspection._listed,
    LISTED_TABLES: Introspection._tables,
}


def _row(item: Dataset) -> tuple[str, str, str, bool, str | None]:
    return item.namespace, item.name, item.id, item.kind == Kind.VIEW, item.definition


def _system_row(full_name: str) -> tuple[str, str, str, bool, None]:
    """Return what is listed of a system table: it is read like a view and cannot be written."""
    schema, _, name = full_name.partition(".")
    return schema, name, full_name, True, None
