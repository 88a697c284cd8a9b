"""What one commit does to the catalog: the rules of each ingest mode, and the rows they leave."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, TypeAlias

from sqlalchemy import Connection, func, insert, select, update

from flight_server.catalog.tables import commits, dataset_versions, datasets, namespaces, object_refs, schemas
from flight_server.domain.dataset import CommittedChange, DatasetChange, IngestMode, display_name, fold_name
from flight_server.errors import AlreadyExistsError, ConflictError, NotFoundError


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
    commit = insert_commit(connection, principal, summary)
    drafts: dict[tuple[str, str], _Draft] = {}
    made = []
    for change in changes:
        name = (fold_name(change.namespace), fold_name(change.name))
        draft = drafts.get(name) or _draft(connection, change, name)
        drafts[name] = draft
        _apply_change(connection, draft, change)
        made.append(draft)
    connection.execute(
        insert(dataset_versions),
        [_version_row(draft.id, draft.version, commit, draft.schema_id) for draft in drafts.values()],
    )
    return [CommittedChange(draft.namespace, draft.name, draft.id, draft.version, commit) for draft in made]


def _draft(connection: Connection, change: DatasetChange, name: tuple[str, str]) -> _Draft:
    versions = dataset_versions
    row = connection.execute(
        select(*datasets.c["id", "name"], *versions.c["version", "schema_id"])
        .join(versions, versions.c.dataset == datasets.c.id)
        .where(
            datasets.c.namespace == name[0],
            datasets.c.lower_name == name[1],
            datasets.c.shadowed_by.is_(None),
        )
        .order_by(versions.c.version.desc())
        .limit(1)
    ).first()
    if row is None:
        return _Draft(change.dataset_id, name[0], change.name, None, None, exists=False)
    return _Draft(row.id, name[0], row.name, row.version, row.schema_id, exists=True)


def _apply_change(connection: Connection, draft: _Draft, change: DatasetChange) -> None:
    schema_id = schema_number(connection, change.schema)
    _RULES[change.mode](draft, change, schema_id)
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
    draft.schema_id = schema_id
    if change.objects:
        connection.execute(insert(object_refs), _ref_rows(draft, change, schema_id))


def _ref_rows(draft: _Draft, change: DatasetChange, schema_id: int) -> list[dict[str, Any]]:
    return [
        {
            "dataset": draft.id,
            "bucket": change.bucket,
            "key": stored.key,
            "schema_id": schema_id,
            "rows": stored.rows,
            "bytes": stored.bytes,
            "checksum": stored.checksum,
            "added_version": draft.version,
            "removed_version": None,
            "managed": True,
        }
        for stored in change.objects
    ]


def _must_be_new(draft: _Draft, _change: DatasetChange, _schema_id: int) -> None:
    if draft.exists:
        raise AlreadyExistsError(f"{draft} already exists; append to it, replace it, or choose another name")


def _must_exist(draft: _Draft, change: DatasetChange, schema_id: int) -> None:
    if not draft.exists:
        raise NotFoundError(f"{draft} does not exist; create it first, or use the mode create_append")
    _must_fit(draft, change, schema_id)


def _must_fit(draft: _Draft, _change: DatasetChange, schema_id: int) -> None:
    if draft.exists and draft.schema_id not in (None, schema_id):
        raise ConflictError(
            f"{draft} has another schema than the rows were written for (it is at version "
            f"{draft.base or draft.version}); read its schema again and repeat the append"
        )


def _must_not_have_moved(draft: _Draft, change: DatasetChange, _schema_id: int) -> None:
    if draft.base is not None and draft.base != change.base_version:
        started = "no dataset" if change.base_version is None else f"version {change.base_version}"
        raise ConflictError(
            f"{draft} moved: it is at version {draft.base}, and the replacement started from {started}; "
            "look at it again and repeat"
        )


_Rule: TypeAlias = Callable[[_Draft, DatasetChange, int], None]

_RULES: dict[IngestMode, _Rule] = {
    IngestMode.CREATE: _must_be_new,
    IngestMode.APPEND: _must_exist,
    IngestMode.CREATE_APPEND: _must_fit,
    IngestMode.REPLACE: _must_not_have_moved,
}
"""What each mode asks of the dataset before it is changed."""


def _now() -> datetime:
    return datetime.now(UTC)


def insert_commit(connection: Connection, principal: str, summary: str) -> int:
    """Insert a commit and return its id."""
    row = {"at": _now(), "principal": principal, "summary": summary}
    made: int = connection.execute(insert(commits).returning(commits.c.id), row).scalar_one()
    return made


def schema_number(connection: Connection, schema: bytes) -> int:
    """Return the id under which a schema is stored, storing it when it is new."""
    digest = sha256(schema).hexdigest()
    known: int | None = connection.execute(select(schemas.c.id).where(schemas.c.digest == digest)).scalar()
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
