"""What a statement changes: its targets, and what becomes of the changes that it brings.

What an engine process says of changes is checked against what it was told: it may change what it asked for,
take away objects that are there, and bring objects that lie under the key of their dataset.
"""

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from flight_server.domain import declarations
from flight_server.domain.bucket import PROFILE_PREFIX, RESERVED_NAMES
from flight_server.domain.dataset import (
    ChangeMode,
    Dataset,
    DatasetChange,
    DatasetFilter,
    Kind,
    Namespace,
    StoredObject,
    display_name,
    fold_name,
)
from flight_server.domain.identity import Identity
from flight_server.domain.staging import Snapshot
from flight_server.errors import (
    AlreadyExistsError,
    ConflictError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    UnimplementedError,
)
from flight_server.frames import changes as said
from flight_server.frames.requests import TableName, is_system
from flight_server.services import time_travel
from flight_server.services.listing import datasets
from flight_server.services.reservations import Reservations
from flight_server.services.resolution import MAX_NAME_LENGTH, Names, check_dataset_name
from flight_server.services.statement_resolution import StatementResolution
from flight_server.services.system_tables import SYSTEM_SCHEMA

_OBJECTS_FOLDER = "_objects"

Record = Callable[[Sequence[DatasetChange]], Awaitable[object]]
"""Commits changes, or stages them."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Who changes what: `home` is where a bare name is created, `bucket` where a schema is.

    `room` tells how many bytes more a bucket may get, None for any number.
    """

    names: Names
    identity: Identity
    snapshot: Snapshot
    home: str
    bucket: str
    reservations: Reservations
    room: Callable[[str], int | None]


@dataclass(frozen=True, slots=True)
class _Target:
    """What an engine process was told of a target; `refs` are its objects as found → as stored."""

    namespace: Namespace
    name: str
    version: int | None
    schema: bytes
    refs: Mapping[tuple[str, str], tuple[str, str]] = field(default_factory=dict)


class StatementTargets:
    """The targets of one run of a statement; close it when the run is over.

    `has_moved` says that its changes were refused because of what others have done meanwhile.
    """

    def __init__(self, resolution: StatementResolution, writer: Writer, record: Record) -> None:
        self._resolution = resolution
        self._writer = writer
        self._names = writer.names
        self._record = record
        self._told: dict[str, _Target] = {}
        self._new: dict[tuple[str, str], str] = {}
        self._held = ExitStack()
        self.has_moved = False

    def close(self) -> None:
        """Let go of what is reserved for the statement's objects."""
        self._held.close()

    def target(self, path: Sequence[str], use: said.Use) -> said.Target:
        """Return what a name means that is to be changed, or where it is to be created.

        Raises NotFoundError, PermissionDeniedError, FailedPreconditionError or UnimplementedError.
        """
        name = TableName(tuple(path))
        if use is said.Use.CREATE:
            check_dataset_name(path[-1])
        elif time_travel.unversioned(name) != name:
            raise InvalidArgumentError(f"{path[-1]!r} is an old version and cannot be changed")
        spaces, table = self._resolution.place(path)
        if spaces == [SYSTEM_SCHEMA]:
            raise UnimplementedError("system tables show what there is and cannot be changed")
        if use is not said.Use.CREATE:
            return self._existing(name, use)
        namespace = self._space(self._writer.home if len(path) == 1 else spaces[0])
        found = self._names.find((namespace.name,), table, self._writer.snapshot)
        return self._target(found, use) if found is not None else self._place(namespace, table)

    def _space(self, name: str) -> Namespace:
        writer = self._writer
        namespace = self._names.namespace(writer.identity, name, writer.snapshot)
        self._names.check_change(writer.identity, namespace)
        return namespace

    def _existing(self, name: TableName, use: said.Use) -> said.Target:
        (relation,) = self._resolution.resolve([name])
        if is_system(relation):
            raise UnimplementedError("system tables show what there is and cannot be changed")
        return self._target(self._resolution.dataset(relation), use)

    def _target(self, dataset: Dataset, use: said.Use) -> said.Target:
        namespace = self._space(dataset.namespace)
        relation = self._resolution.relation(dataset)
        schema, version = dataset.schema or b"", dataset.version or None
        is_read = dataset.kind == Kind.TABLE and (use is not said.Use.APPEND or _has_keys(schema))
        located = self._resolution.refs(relation) if is_read else []
        refs = {place: (ref.bucket, ref.key) for ref, place in located}
        self._tell(dataset.id, _Target(namespace, dataset.name, version, schema, refs))
        objects = tuple(said.TargetObject(*place, ref.rows, ref.schema or schema) for ref, place in located)
        return said.Target(
            True, dataset.kind, dataset.id, namespace.name, dataset.name, namespace.bucket, version, relation,
            schema, objects, self._writer.room(namespace.bucket),
        )  # fmt: skip

    def _place(self, namespace: Namespace, table: str) -> said.Target:
        key = (namespace.name, fold_name(table))
        dataset_id = self._new.setdefault(key, str(uuid.uuid4()))
        self._tell(dataset_id, _Target(namespace, table, None, b""))
        room = self._writer.room(namespace.bucket)
        return said.Target(False, Kind.TABLE, dataset_id, namespace.name, table, namespace.bucket, room=room)

    def _tell(self, dataset_id: str, target: _Target) -> None:
        if dataset_id not in self._told:
            self._held.enter_context(self._writer.reservations.hold(dataset_id))
        self._told[dataset_id] = target

    def namespace(self, name: str) -> said.Namespace:
        """Return a schema that is to be made or dropped, with what it holds.

        Raises PermissionDeniedError, FailedPreconditionError or InvalidArgumentError.
        """
        writer = self._writer
        found = self._names.find_namespace(writer.identity, name, writer.snapshot)
        if found is None:
            self._check_new_namespace(name)
            place = Namespace(fold_name(name), writer.bucket)
            self._names.check_change(writer.identity, place)
            return said.Namespace(False, place.name, place.bucket)
        held = datasets(self._names, writer.snapshot, DatasetFilter((found.name,)))
        targets = tuple(self._target(item, said.Use.CHANGE) for item in held)
        return said.Namespace(True, found.name, found.bucket, targets)

    async def record(self, changes: Sequence[said.StatementChange]) -> None:
        """Commit or stage what the statement has done. Raises what the commit raises."""
        checked = [_CHECKS[Kind(change.kind)](self, change) for change in changes]
        try:
            await self._record(checked)
        except (AlreadyExistsError, ConflictError, NotFoundError):
            self.has_moved = True
            raise

    def _schema_change(self, change: said.StatementChange) -> DatasetChange:
        mode, name = ChangeMode(change.mode), fold_name(change.namespace)
        writer = self._writer
        found = self._names.find_namespace(writer.identity, name, writer.snapshot)
        if mode is ChangeMode.DROP and found is not None and found.name == found.bucket:
            raise FailedPreconditionError(f"schema {name} is that of a bucket and cannot be dropped")
        if found is None and mode is ChangeMode.DROP:
            raise NotFoundError(f"no schema {name!r}")
        if found is None:
            self._check_new_namespace(name)
        place = found or Namespace(name, writer.bucket)
        self._names.check_change(writer.identity, place)
        return DatasetChange(name, "", place.bucket, mode, "", None, b"", (), kind=Kind.SCHEMA)

    def _check_new_namespace(self, name: str) -> None:
        """Refuse names that a new schema cannot have, among them those of buckets that others see."""
        _check_namespace_name(name)
        if self._names.registry.find(fold_name(name)) is not None:
            raise AlreadyExistsError(f"schema {fold_name(name)} already exists: choose another name")

    def _dataset_change(self, change: said.StatementChange) -> DatasetChange:
        target = self._told.get(change.dataset_id)
        prefix = f"{_OBJECTS_FOLDER}/{change.dataset_id}/"
        if (
            target is None
            or change.bucket != target.namespace.bucket
            or not all(key.startswith(prefix) for key, *_ in change.objects)
            or not all(place in target.refs for place in change.removed)
        ):
            raise InternalError("the engine process changed something else than it had asked for")
        if change.new_name is not None:
            check_dataset_name(change.new_name)
        return DatasetChange(
            namespace=target.namespace.name,
            name=target.name,
            bucket=change.bucket,
            mode=ChangeMode(change.mode),
            dataset_id=change.dataset_id,
            base_version=target.version,
            schema=target.schema if change.schema is None else change.schema,
            objects=tuple(StoredObject(*parts) for parts in change.objects),
            kind=Kind(change.kind),
            removed=tuple(target.refs[place] for place in change.removed),
            new_name=change.new_name,
            definition=change.definition,
        )


_CHECKS: Mapping[Kind, Callable[[StatementTargets, said.StatementChange], DatasetChange]] = {
    Kind.TABLE: StatementTargets._dataset_change,
    Kind.VIEW: StatementTargets._dataset_change,
    Kind.SCHEMA: StatementTargets._schema_change,
}


def _has_keys(schema: bytes) -> bool:
    return declarations.CONSTRAINTS in schema and bool(declarations.keys(declarations.read(schema)))


def _check_namespace_name(name: str) -> None:
    if fold_name(name).startswith(PROFILE_PREFIX):
        raise InvalidArgumentError(
            f"{name[:80]!r} is kept for a profile's bucket, whose schema comes with it: choose another"
        )
    if not name or len(name) > MAX_NAME_LENGTH or not name.isprintable() or fold_name(name) in RESERVED_NAMES:
        raise InvalidArgumentError(
            f"{name[:80]!r} cannot be the name of a schema: 1 to {MAX_NAME_LENGTH} printable characters, and "
            f"none of {', '.join(sorted(RESERVED_NAMES))}"
        )


def summary(changes: Sequence[DatasetChange]) -> str:
    """Say in a few words what changes do."""
    parts = []
    for change in changes:
        name = change.namespace if change.kind is Kind.SCHEMA else display_name(change.namespace, change.name)
        rows = f": {sum(stored.rows for stored in change.objects)} rows" if change.objects else ""
        parts.append(f"{change.mode} {name}{rows}")
    return ", ".join(dict.fromkeys(parts))
