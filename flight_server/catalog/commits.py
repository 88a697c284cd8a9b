"""What one commit does to the catalog: the rows that each kind of change leaves."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeAlias

from sqlalchemy import Connection, bindparam, func, insert, select, update

from flight_server.catalog import idempotency
from flight_server.catalog.drafts import Draft, Drafts, check_promises
from flight_server.catalog.profiles import check_live
from flight_server.catalog.spaces import apply_to_namespace, ensure_namespaces
from flight_server.catalog.tables import (
    commits,
    dataset_versions,
    datasets,
    former_names,
    object_refs,
    swept_objects,
)
from flight_server.domain import columns, declarations
from flight_server.domain.dataset import (
    ChangeMode,
    CommittedChange,
    DatasetChange,
    Kind,
    fold_name,
)
from flight_server.domain.embedding import embedded_fields
from flight_server.errors import AlreadyExistsError, ConflictError

_KEYS_AT_ONCE = 500
_REFS_AT_ONCE = 10_000

# Made once: building a statement costs as much as running it.
_SWEPT = (
    select(swept_objects.c.key).where(swept_objects.c.key.in_(bindparam("keys", expanding=True))).limit(1)
)
_IS_SWEPT = select(swept_objects.c.key).where(swept_objects.c.key == bindparam("key"))
_INSERT_COMMIT = insert(commits).returning(commits.c.id)
_INSERT_REFS = insert(object_refs)
_INSERT_VERSIONS = insert(dataset_versions)


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
        check_live(connection, {change.bucket for _, change in new})
        _check_unswept(connection, [stored.key for _, change in new for stored in change.objects])
        made |= _apply_new(connection, new, principal, summary)
    return [made[place] for place in range(len(changes))]


def _apply_new(
    connection: Connection, new: Sequence[tuple[int, DatasetChange]], principal: str, summary: str
) -> dict[int, CommittedChange]:
    commit = insert_commit(connection, principal, summary)
    drafts = Drafts(connection)
    made = {}
    for place, change in new:
        if change.kind is Kind.SCHEMA:
            apply_to_namespace(connection, change, commit)
            made[place] = CommittedChange(change.namespace, "", "", 0, commit, 0, 0, 0)
            continue
        draft = drafts.of(change)
        drafts.check(draft, change)
        _STEPS[change.mode](_Step(connection, drafts, draft, commit), change)
        made[place] = _committed(draft, change, commit)
        if change.upload_key is not None:
            idempotency.record(connection, principal, change.upload_key, made[place])
    versions = [_version_row(draft, commit) for draft in drafts.touched()]
    if versions:
        connection.execute(_INSERT_VERSIONS, versions)
    return made


def _committed(draft: Draft, change: DatasetChange, commit: int) -> CommittedChange:
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
        # An expanding parameter costs twice as much, and most commits bring one object.
        found = (_IS_SWEPT, {"key": chunk[0]}) if len(chunk) == 1 else (_SWEPT, {"keys": chunk})
        if connection.execute(*found).scalar():
            raise ConflictError(
                "a sweep has removed objects of this change, because they were older than its "
                "older_than_s before they were committed; send the change again"
            )


class _Step:
    """One change on its way into the tables; its draft has been checked."""

    def __init__(self, connection: Connection, drafts: Drafts, draft: Draft, commit: int) -> None:
        self._connection = connection
        self._drafts = drafts
        self._draft = draft
        self._commit = commit

    def write(self, change: DatasetChange) -> None:
        """Create the dataset or the view, or add what the change brings to what is there."""
        draft = self._draft
        if change.kind is Kind.VIEW:
            schema_id = self._drafts.schema_number(change.schema) if change.schema else None
            draft.definition = change.definition
        else:
            schema_id = self._version_schema(change, self._drafts.schema_number(change.schema))
        if not draft.exists:
            self._create(change)
        elif change.mode is ChangeMode.REPLACE:
            self._remove_all()
        draft.schema_id = schema_id
        self._add(change)

    def rewrite(self, change: DatasetChange) -> None:
        """Put objects in the place of others. Raises ConflictError when one of these is gone."""
        for start in range(0, len(change.removed), _KEYS_AT_ONCE):
            self._remove(sorted(change.removed[start : start + _KEYS_AT_ONCE]))
        self._add(change)

    def alter(self, change: DatasetChange) -> None:
        """Give the dataset another schema."""
        self._draft.schema_id = self._drafts.schema_number(change.schema)
        self._drafts.keep(self._draft)

    def rename(self, change: DatasetChange) -> None:
        """Give it another name in its schema. Raises AlreadyExistsError."""
        draft, new_name = self._draft, change.new_name or ""
        holder = self._drafts.named(draft.namespace, new_name)
        if holder is not None and holder.id != draft.id:
            raise AlreadyExistsError(f"{holder} already exists: choose another name")
        if draft.since < self._commit:
            former = {
                "dataset": draft.id,
                "kind": draft.kind,
                "namespace": draft.namespace,
                "name": draft.name,
                "lower_name": fold_name(draft.name),
                "since": draft.since,
                "until": self._commit,
            }
            self._connection.execute(insert(former_names), former)
        self._drafts.free(draft)
        draft.name, draft.since = new_name, self._commit
        self._update(name=new_name, lower_name=fold_name(new_name), since=self._commit)
        self._drafts.keep(draft)

    def drop(self, _change: DatasetChange) -> None:
        """End it: its last version has no objects, and the name is free."""
        self._remove_all()
        self._update(dropped=self._commit)
        self._draft.exists = False
        self._drafts.keep(self._draft)

    def _create(self, change: DatasetChange) -> None:
        draft = self._draft
        ensure_namespaces(self._connection, {draft.namespace: change.bucket})
        row = {"id": draft.id, "namespace": draft.namespace, "name": draft.name, "created_at": _now()}
        row |= {"kind": change.kind.value, "since": self._commit}
        self._connection.execute(insert(datasets), dataset_row(row, next_arrival(self._connection)))
        draft.exists, draft.since = True, self._commit

    def _update(self, **values: object) -> None:
        self._connection.execute(update(datasets).where(datasets.c.id == self._draft.id).values(**values))

    def _remove_all(self) -> None:
        refs = object_refs.c
        self._connection.execute(
            update(object_refs)
            .where(refs.dataset == self._draft.id, refs.removed_version.is_(None))
            .values(removed_version=self._draft.version)
        )

    def _remove(self, removed: Sequence[tuple[str, str]]) -> None:
        refs = object_refs.c
        for bucket, pairs in groupby(removed, key=itemgetter(0)):
            keys = [key for _, key in pairs]
            gone = self._connection.execute(
                update(object_refs)
                .where(
                    refs.dataset == self._draft.id,
                    refs.bucket == bucket,
                    refs.key.in_(keys),
                    refs.removed_version.is_(None),
                )
                .values(removed_version=self._draft.version)
            )
            if gone.rowcount != len(keys):
                raise ConflictError(
                    f"{self._draft} moved: rows that this change started from were changed by another commit "
                    f"(it is at version {self._draft.base}); look at it again and repeat"
                )

    def _add(self, change: DatasetChange) -> None:
        self._drafts.keep(self._draft)
        for start in range(0, len(change.objects), _REFS_AT_ONCE):
            self._connection.execute(_INSERT_REFS, [*self._ref_rows(change, start)])

    def _ref_rows(self, change: DatasetChange, start: int) -> Iterator[dict[str, Any]]:
        chunk = change.objects[start : start + _REFS_AT_ONCE]
        numbers = {
            schema: self._drafts.schema_number(schema)
            for schema in {stored.schema or change.schema for stored in chunk}
        }
        for stored in chunk:
            yield {
                "dataset": self._draft.id,
                "bucket": change.bucket,
                "key": stored.key,
                "schema_id": numbers[stored.schema or change.schema],
                "rows": stored.rows,
                "bytes": stored.bytes,
                "checksum": stored.checksum,
                "added_version": self._draft.version,
                "removed_version": None,
                "managed": change.managed,
            }

    def _version_schema(self, change: DatasetChange, schema_id: int) -> int:
        """Return the schema of the version that a change makes.

        An append keeps the dataset's columns, which may have become more since its objects were
        written; one that evolves adds its own. Raises ConflictError when neither is possible.
        """
        draft = self._draft
        if not draft.exists or change.mode is ChangeMode.REPLACE or draft.schema_id in (None, schema_id):
            return schema_id
        written = self._drafts.schema(draft.schema_id)
        if not _fits(declarations.read(change.schema), declarations.read(written), change.evolves):
            raise ConflictError(
                f"{draft} has another schema than the rows were written for (it is at version "
                f"{draft.base or draft.version}); read its schema again and repeat the append"
            )
        check_promises(self._drafts, draft, change)
        return self._drafts.schema_number(columns.merged(written, change.schema))


def _fits(offered: Any, current: Any, evolves: bool) -> bool:
    """Tell whether rows of one schema can be appended to another: no column is lost or mistaken."""
    known, own = columns.by_name(current), columns.by_name(offered)
    if any(name not in known for name in own) and not evolves:
        return False
    is_same = all(
        declarations.column_id(known[name]) == declarations.column_id(field)
        for name, field in own.items()
        if name in known
    )
    is_computed = all(item.field.name.lower() in own for item in embedded_fields(current))
    return is_same and is_computed and not columns.conflicts(offered, current, "the append")


_Apply: TypeAlias = Callable[[_Step, DatasetChange], None]

_STEPS: Mapping[ChangeMode, _Apply] = {
    ChangeMode.CREATE: _Step.write,
    ChangeMode.APPEND: _Step.write,
    ChangeMode.CREATE_APPEND: _Step.write,
    ChangeMode.REPLACE: _Step.write,
    ChangeMode.REWRITE: _Step.rewrite,
    ChangeMode.ALTER: _Step.alter,
    ChangeMode.RENAME: _Step.rename,
    ChangeMode.DROP: _Step.drop,
}


def _now() -> datetime:
    return datetime.now(UTC)


def insert_commit(connection: Connection, principal: str, summary: str) -> int:
    """Insert a commit and return its id."""
    row = {"at": _now(), "principal": principal, "summary": summary}
    made: int = connection.execute(_INSERT_COMMIT, row).scalar_one()
    return made


def next_arrival(connection: Connection) -> int:
    """Return the next number in the order in which datasets arrive."""
    arrival: int = connection.execute(select(func.coalesce(func.max(datasets.c.arrival), 0) + 1)).scalar_one()
    return arrival


def dataset_row(values: Mapping[str, Any], arrival: int, shadowed_by: str | None = None) -> dict[str, Any]:
    """Complete the row of a dataset whose id, namespace, name and `created_at` are given."""
    return {
        "kind": Kind.TABLE.value,
        "since": 0,
        **values,
        "lower_name": fold_name(values["name"]),
        "arrival": arrival,
        "shadowed_by": shadowed_by,
    }


def _version_row(draft: Draft, commit: int) -> dict[str, Any]:
    return {
        "dataset": draft.id,
        "version": draft.version,
        "commit": commit,
        "schema_id": draft.schema_id,
        "definition": draft.definition,
    }
