"""Takes over datasets that were written before this catalog existed; their objects stay where they are."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Table, insert, select

from flight_server.catalog.commits import (
    dataset_row,
    ensure_namespaces,
    insert_commit,
    next_arrival,
    schema_number,
)
from flight_server.catalog.shadowing import find_groups, shadow
from flight_server.catalog.tables import dataset_versions, datasets, object_refs
from flight_server.domain.dataset import ImportedDataset, fold_name

_CHUNK_ROWS = 20_000
"""Rows handed to the database at once; bounds the memory of an import."""


def import_datasets(
    connection: Connection, imported: Sequence[ImportedDataset], principal: str
) -> dict[str, object]:
    """Store the datasets that the catalog does not have yet as one commit, and report what was done.

    Of datasets with the same name, stored ones included, the newest keeps it.
    """
    new = _unknown(connection, imported)
    report: dict[str, object] = {
        "datasets": len(new),
        "objects": sum(len(dataset.objects) for dataset in new),
        "rows": sum(ref.rows or 0 for dataset in new for ref in dataset.objects),
        "already_imported": len(imported) - len(new),
        "shadowed": [],
    }
    if new:
        _insert(connection, new, principal)
        groups = find_groups(connection)
        shadow(connection, groups)
        ids = {dataset.id for dataset in new}
        report["shadowed"] = [
            group.report() for group in groups if len(group.ids) > 1 and not ids.isdisjoint(group.ids)
        ]
    return report


def _unknown(connection: Connection, imported: Sequence[ImportedDataset]) -> list[ImportedDataset]:
    known = set(connection.execute(select(datasets.c.id)).scalars())
    first: dict[str, ImportedDataset] = {}
    for dataset in imported:
        if dataset.id not in known:
            first.setdefault(dataset.id, dataset)
    return list(first.values())


def _insert(connection: Connection, new: list[ImportedDataset], principal: str) -> None:
    commit = insert_commit(connection, principal, f"import {len(new)} datasets")
    ensure_namespaces(connection, {fold_name(dataset.namespace): dataset.namespace for dataset in new})
    schemas = _SchemaNumbers(connection)
    _insert_chunks(connection, datasets, _dataset_rows(new, next_arrival(connection)))
    _insert_chunks(
        connection,
        dataset_versions,
        (
            {"dataset": dataset.id, "version": 1, "commit": commit, "schema_id": schemas.of(dataset.schema)}
            for dataset in new
        ),
    )
    _insert_chunks(connection, object_refs, _ref_rows(new, schemas))


def _dataset_rows(new: list[ImportedDataset], arrival: int) -> Iterator[dict[str, Any]]:
    for number, dataset in enumerate(new, arrival):
        row = {
            "id": dataset.id,
            "namespace": fold_name(dataset.namespace),
            "name": dataset.name,
            "created_at": dataset.created_at,
        }
        # Shadowed by itself until it is known whose name it is: two live ones are never stored.
        yield dataset_row(row, number, shadowed_by=dataset.id)


class _SchemaNumbers:
    """Remembers the ids of schemas, of which many objects share one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._known: dict[bytes, int] = {}

    def of(self, schema: bytes | None) -> int | None:
        if schema is None:
            return None
        if schema not in self._known:
            self._known[schema] = schema_number(self._connection, schema)
        return self._known[schema]


def _ref_rows(new: list[ImportedDataset], schemas: _SchemaNumbers) -> Iterator[dict[str, Any]]:
    for dataset in new:
        for ref in dataset.objects:
            yield {
                "dataset": dataset.id,
                "bucket": ref.bucket,
                "key": ref.key,
                "schema_id": schemas.of(ref.schema),
                "rows": ref.rows,
                "bytes": ref.bytes,
                "checksum": "",
                "added_version": 1,
                "managed": False,
            }


def _insert_chunks(connection: Connection, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    remaining = iter(rows)
    while chunk := list(islice(remaining, _CHUNK_ROWS)):
        connection.execute(insert(table), chunk)
