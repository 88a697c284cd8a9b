"""What one commit does to the catalog: the rules of each ingest mode, and the rows they leave."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, TypeAlias

import pyarrow as pa
from sqlalchemy import Connection, bindparam, func, insert, select, update

from flight_server.catalog import idempotency
from flight_server.catalog.tables import (
    commits,
    dataset_versions,
    datasets,
    namespaces,
    object_refs,
    schemas,
    swept_objects,
)
from flight_server.domain import columns
from flight_server.domain.dataset import CommittedChange, DatasetChange, IngestMode, display_name, fold_name
from flight_server.errors import AlreadyExistsError, ConflictError, NotFoundError

_KEYS_AT_ONCE = 500
_REFS_AT_ONCE = 10_000

# Made once: building a statement costs as much as running it.
_SWEPT = (
    select(swept_objects.c.key).where(swept_objects.c.key.in_(bindparam("keys", expanding=True))).limit(1)
)
_CURRENT = (
    select(*datasets.c["id", "name"], *dataset_versions.c["version", "schema_id"])
    .join(dataset_versions, dataset_versions.c.dataset == datasets.c.id)
    .where(
        datasets.c.namespace == bindparam("namespace"),
        datasets.c.lower_name == bindparam("lower_name"),
        datasets.c.shadowed_by.is_(None),
    )
    .order_by(dataset_versions.c.version.desc())
    .limit(1)
)
_SCHEMA_ID = select(schemas.c.id).where(schemas.c.digest == bindparam("digest"))
_INSERT_COMMIT = insert(commits).returning(commits.c.id)
_INSERT_REFS = insert(object_refs)
_INSERT_VERSIONS = insert(dataset_versions)


@dataclass(slots=True)
class _Draft:
    """The next version of one dataset while its commit is being made; `base` is the stored version."""

    id: str
    namespace: str
    name: str
    base: int | None
    schema_id: int | None
    exists: bool

    @property
    def version(self) -> int:
        return (self.base or 0) + 1

    def __str__(self) -> str:
        return f"dataset {display_name(self.namespace, self.name)}"


def apply(
    connection: Connection, changes: Sequence[DatasetChange], principal: str, summary: str
) -> list[CommittedChange]:
    """Make one commit of all changes and return what became of each, in their order.

    Several changes to one dataset are applied in order as one version. Raises AlreadyExistsError,
    NotFoundError or ConflictError; the caller then rolls the transaction back.
    """
    made = idempotency.repeated(connection, principal, changes)
    if len(made) < len(changes):
        new = [(place, change) for place, change in enumerate(changes) if place not in made]
        _check_unswept(connection, [stored.key for _, change in new for stored in change.objects])
        made |= _apply_new(connection, new, principal, summary)
    return [made[place] for place in range(len(changes))]


def _apply_new(
    connection: Connection, new: Sequence[tuple[int, DatasetChange]], principal: str, summary: str
) -> dict[int, CommittedChange]:
    commit = insert_commit(connection, principal, summary)
    drafts: dict[tuple[str, str], _Draft] = {}
    made = {}
    for place, change in new:
        name = (fold_name(change.namespace), fold_name(change.name))
        draft = drafts.get(name) or _draft(connection, change, name)
        drafts[name] = draft
        _apply_change(connection, draft, change)
        made[place] = _committed(draft, change, commit)
        if change.upload_key is not None:
            idempotency.record(connection, principal, change.upload_key, made[place])
    connection.execute(
        _INSERT_VERSIONS,
        [_version_row(draft.id, draft.version, commit, draft.schema_id) for draft in drafts.values()],
    )
    return made


def _committed(draft: _Draft, change: DatasetChange, commit: int) -> CommittedChange:
    return CommittedChange(
        namespace=draft.namespace,
        name=draft.name,
        dataset_id=draft.id,
        version=draft.version,
        commit=commit,
        rows=sum(stored.rows for stored in change.objects),
        bytes=sum(stored.bytes for stored in change.objects),
        objects=len(change.objects),
    )


def _check_unswept(connection: Connection, keys: Sequence[str]) -> None:
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        chunk = keys[start : start + _KEYS_AT_ONCE]
        if connection.execute(_SWEPT, {"keys": chunk}).scalar():
            raise ConflictError(
                "a sweep has removed objects of this change, because they were older than its "
                "older_than_s before they were committed; send the change again"
            )


def _draft(connection: Connection, change: DatasetChange, name: tuple[str, str]) -> _Draft:
    row = connection.execute(_CURRENT, {"namespace": name[0], "lower_name": name[1]}).first()
    if row is None:
        return _Draft(change.dataset_id, name[0], change.name, None, None, exists=False)
    return _Draft(row.id, name[0], row.name, row.version, row.schema_id, exists=True)


def _apply_change(connection: Connection, draft: _Draft, change: DatasetChange) -> None:
    schema_id = schema_number(connection, change.schema)
    _RULES[change.mode](draft, change)
    version_schema_id = _version_schema(connection, draft, change, schema_id)
    if not draft.exists:
        ensure_namespaces(connection, {draft.namespace: change.bucket})
        row = {"id": draft.id, "namespace": draft.namespace, "name": draft.name, "created_at": _now()}
        connection.execute(insert(datasets), dataset_row(row, next_arrival(connection)))
        draft.exists = True
    elif change.mode is IngestMode.REPLACE:
        connection.execute(
            update(object_refs)
            .where(object_refs.c.dataset == draft.id, object_refs.c.removed_version.is_(None))
            .values(removed_version=draft.version)
        )
    draft.schema_id = version_schema_id
    for start in range(0, len(change.objects), _REFS_AT_ONCE):
        rows = _ref_rows(connection, draft, change, start)
        connection.execute(_INSERT_REFS, rows)


def _version_schema(connection: Connection, draft: _Draft, change: DatasetChange, schema_id: int) -> int:
    """Return the schema of the version that a change makes.

    An append keeps the dataset's columns, which may have become more since its objects were
    written; one that evolves adds its own. Raises ConflictError when neither is possible.
    """
    if not draft.exists or change.mode is IngestMode.REPLACE or draft.schema_id in (None, schema_id):
        return schema_id
    stored = select(schemas.c.arrow_schema).where(schemas.c.id == draft.schema_id)
    written: bytes = connection.execute(stored).scalar_one()
    current = pa.ipc.read_schema(pa.py_buffer(written))
    offered = pa.ipc.read_schema(pa.py_buffer(change.schema))
    known = columns.by_name(current)
    has_own = any(name not in known for name in columns.by_name(offered))
    if columns.conflicts(offered, current, "the append") or (has_own and not change.evolves):
        raise ConflictError(
            f"{draft} has another schema than the rows were written for (it is at version "
            f"{draft.base or draft.version}); read its schema again and repeat the append"
        )
    return schema_number(connection, columns.merged(written, change.schema))


def _ref_rows(
    connection: Connection, draft: _Draft, change: DatasetChange, start: int
) -> list[dict[str, Any]]:
    chunk = change.objects[start : start + _REFS_AT_ONCE]
    numbers = {
        schema: schema_number(connection, schema)
        for schema in {stored.schema or change.schema for stored in chunk}
    }
    return [
        {
            "dataset": draft.id,
            "bucket": change.bucket,
            "key": stored.key,
            "schema_id": numbers[stored.schema or change.schema],
            "rows": stored.rows,
            "bytes": stored.bytes,
            "checksum": stored.checksum,
            "added_version": draft.version,
            "removed_version": None,
            "managed": change.managed,
        }
        for stored in chunk
    ]


def _must_be_new(draft: _Draft, _change: DatasetChange) -> None:
    if draft.exists:
        raise AlreadyExistsError(f"{draft} already exists; append to it, replace it, or choose another name")


def _must_exist(draft: _Draft, _change: DatasetChange) -> None:
    if not draft.exists:
        raise NotFoundError(f"{draft} does not exist; create it first, or use the mode create_append")


def _may_exist(_draft: _Draft, _change: DatasetChange) -> None:
    """Ask nothing."""


def _must_not_have_moved(draft: _Draft, change: DatasetChange) -> None:
    if draft.base is not None and draft.base != change.base_version:
        started = "no dataset" if change.base_version is None else f"version {change.base_version}"
        raise ConflictError(
            f"{draft} moved: it is at version {draft.base}, and the replacement started from {started}; "
            "look at it again and repeat"
        )


_Rule: TypeAlias = Callable[[_Draft, DatasetChange], None]

_RULES: dict[IngestMode, _Rule] = {
    IngestMode.CREATE: _must_be_new,
    IngestMode.APPEND: _must_exist,
    IngestMode.CREATE_APPEND: _may_exist,
    IngestMode.REPLACE: _must_not_have_moved,
}
"""What each mode asks of the dataset before it is changed."""


def _now() -> datetime:
    return datetime.now(UTC)


def insert_commit(connection: Connection, principal: str, summary: str) -> int:
    """Insert a commit and return its id."""
    row = {"at": _now(), "principal": principal, "summary": summary}
    made: int = connection.execute(_INSERT_COMMIT, row).scalar_one()
    return made


def schema_number(connection: Connection, schema: bytes) -> int:
    """Return the id under which a schema is stored, storing it when it is new."""
    digest = sha256(schema).hexdigest()
    known: int | None = connection.execute(_SCHEMA_ID, {"digest": digest}).scalar()
    if known is not None:
        return known
    row = {"digest": digest, "arrow_schema": schema}
    made: int = connection.execute(insert(schemas).returning(schemas.c.id), row).scalar_one()
    return made


def ensure_namespaces(connection: Connection, buckets: Mapping[str, str]) -> None:
    """Insert the namespaces that are missing, each bound to the bucket given for it."""
    known = set(connection.execute(select(namespaces.c.name).where(namespaces.c.name.in_(buckets))).scalars())
    missing = [{"name": name, "bucket": bucket} for name, bucket in buckets.items() if name not in known]
    if missing:
        connection.execute(insert(namespaces), missing)


def next_arrival(connection: Connection) -> int:
    """Return the next number in the order in which datasets arrive."""
    arrival: int = connection.execute(select(func.coalesce(func.max(datasets.c.arrival), 0) + 1)).scalar_one()
    return arrival


def dataset_row(values: Mapping[str, Any], arrival: int, shadowed_by: str | None = None) -> dict[str, Any]:
    """Complete the row of a dataset whose id, namespace, name and `created_at` are given."""
    return {
        **values,
        "lower_name": fold_name(values["name"]),
        "kind": "table",
        "arrival": arrival,
        "shadowed_by": shadowed_by,
    }


def _version_row(dataset: str, version: int, commit: int, schema_id: int | None) -> dict[str, Any]:
    return {"dataset": dataset, "version": version, "commit": commit, "schema_id": schema_id}
