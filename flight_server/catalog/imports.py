"""Takes over datasets that were written before this catalog existed; their objects stay where they are."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, func, insert, literal, select, update

from flight_server.catalog.commits import (
    dataset_row,
    insert_commit,
    next_arrival,
)
from flight_server.catalog.drafts import schema_number
from flight_server.catalog.import_stage import (
    ImportStage,
    insert_chunks,
    staged_refs,
    staged_schemas,
)
from flight_server.catalog.shadowing import find_groups, shadow
from flight_server.catalog.spaces import ensure_namespaces
from flight_server.catalog.tables import dataset_versions, datasets, object_refs
from flight_server.domain import columns


def import_staged(connection: Connection, stage: ImportStage, principal: str) -> dict[str, object]:
    """Store the staged datasets that the catalog does not have yet as one commit, and report what was done.

    Of datasets with the same name, stored ones included, the newest keeps it.
    """
    already_imported = stage.drop_known()
    count, objects, rows = stage.totals()
    return {
        "datasets": count,
        "objects": objects,
        "rows": rows,
        "already_imported": already_imported,
        "shadowed": _insert(connection, stage, principal, count) if count else [],
    }


def _insert(connection: Connection, stage: ImportStage, principal: str, count: int) -> list[object]:
    commit = insert_commit(connection, principal, f"import {count} datasets")
    ensure_namespaces(connection, stage.namespaces())
    arrival = next_arrival(connection)
    # Shadowed by itself until it is known whose name it is: two live ones are never stored.
    rows = (dataset_row(row, at, row["id"]) for at, row in enumerate(stage.datasets(), arrival))
    insert_chunks(connection, datasets, rows)
    numbers = [
        {"number": number, "schema_id": schema_number(connection, schema)}
        for number, schema in enumerate(stage.schemas)
    ]
    insert_chunks(connection, staged_schemas, numbers)
    insert_chunks(connection, dataset_versions, _version_rows(connection, stage, commit))
    _insert_refs(connection)
    return _settle_names(connection)


def _version_rows(connection: Connection, stage: ImportStage, commit: int) -> Iterator[dict[str, Any]]:
    schemas = stage.schemas
    unified: dict[tuple[int, ...], int | None] = {(): None}
    for id, numbers in stage.schemas_of_datasets():
        if numbers not in unified:
            schema = columns.unified(schemas[number] for number in numbers)
            unified[numbers] = None if schema is None else schema_number(connection, schema)
        yield {"dataset": id, "version": 1, "commit": commit, "schema_id": unified[numbers]}


def _insert_refs(connection: Connection) -> None:
    """Take over all refs in one statement, since other writers wait meanwhile."""
    values = {
        "dataset": staged_refs.c.dataset,
        "bucket": staged_refs.c.bucket,
        "key": staged_refs.c.key,
        "schema_id": staged_schemas.c.schema_id,
        "rows": staged_refs.c.rows,
        "bytes": staged_refs.c.bytes,
        "checksum": literal(""),
        "added_version": literal(1),
        "managed": literal(False),
    }
    found = (
        select(*values.values())
        .select_from(staged_refs)
        .join(staged_schemas, staged_schemas.c.number == staged_refs.c.schema, isouter=True)
        .order_by(staged_refs.c.number)
    )
    connection.execute(insert(object_refs).from_select([*values], found))


def _settle_names(connection: Connection) -> list[object]:
    """Give each name to the newest dataset; report the names for which a new one had a rival."""
    size = func.count().over(partition_by=(datasets.c.namespace, datasets.c.lower_name))
    named = select(datasets.c.id, size.label("size")).where(datasets.c.dropped.is_(None)).subquery()
    alone = select(named.c.id).where(named.c.size == 1)
    connection.execute(
        update(datasets)
        .where(datasets.c.shadowed_by == datasets.c.id, datasets.c.id.in_(alone))
        .values(shadowed_by=None)
    )
    groups = find_groups(connection)
    shadow(connection, groups)
    return [group.report() for group in groups if any(id == shadow for id, shadow in group.members)]
