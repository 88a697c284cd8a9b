"""Register: Parquet objects that lie in a bucket already become part of a dataset, where they are."""

import uuid
from collections.abc import Sequence

import pyarrow as pa

from flight_server.dispatch.dispatcher import Dispatcher
from flight_server.dispatch.engine import InspectedObject
from flight_server.domain import columns, declarations, partitions
from flight_server.domain.bucket import Bucket
from flight_server.domain.call import CallContext
from flight_server.domain.dataset import (
    ChangeMode,
    Dataset,
    DatasetChange,
    IngestMode,
    Kind,
    StoredObject,
    display_name,
)
from flight_server.domain.embedding import embedded_fields
from flight_server.domain.staging import Snapshot
from flight_server.domain.statement import IngestResult, Registration
from flight_server.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    SchemaMismatchError,
)
from flight_server.services.commits import Committer
from flight_server.services.resolution import Names, check_dataset_name

_OBJECTS_FOLDER = "_objects"
_INSPECTED_AT_ONCE = 64
_LISTED = 10
_SUFFIX = ".parquet"


class RegisterService:
    """Registers objects of others."""

    def __init__(self, dispatcher: Dispatcher, names: Names, committer: Committer) -> None:
        self._dispatcher = dispatcher
        self._names = names
        self._committer = committer

    async def register(self, call: CallContext, asked: Registration) -> IngestResult:
        """Make the objects part of a dataset by one commit; nothing is copied, moved or ever deleted.

        Raises NotFoundError with the keys that lead to no object, SchemaMismatchError with what
        differs, AlreadyExistsError for objects that the dataset has.
        """
        check_dataset_name(asked.dataset)
        bucket = self._bucket(call, asked.bucket)
        for key in asked.keys:
            _check_key(key)
        existing = self._existing(bucket, asked)
        keys = await self._expand(bucket, asked.keys)
        if existing is not None and asked.mode is not IngestMode.REPLACE:
            _check_nothing_computed(existing)
            self._check_new(existing, bucket, keys)
        footers = await self._inspect(bucket, keys)
        wanted = None if asked.mode is IngestMode.REPLACE or existing is None else existing.schema
        schema, objects = _objects(footers, wanted)
        change = DatasetChange(
            namespace=bucket.name,
            name=existing.name if existing else asked.dataset,
            bucket=bucket.name,
            mode=ChangeMode(asked.mode),
            dataset_id=existing.id if existing else str(uuid.uuid4()),
            base_version=(existing.version or None) if existing else None,
            schema=schema,
            objects=objects,
            managed=False,
        )
        summary = f"register {display_name(bucket.name, change.name)}: {len(objects)} objects"
        (made,) = await self._committer.commit([change], call.identity.name, summary)
        return IngestResult(
            change.name, bucket.name, made.version, made.commit, made.rows, made.bytes, made.objects
        )

    def _bucket(self, call: CallContext, written: str) -> Bucket:
        bucket = self._names.registry.known(
            self._names.namespace(call.identity, written, Snapshot(self._committer.newest())).bucket
        )
        if call.named_bucket not in (None, bucket.name):
            raise InvalidArgumentError(
                f"the call names bucket {call.named_bucket!r} in its header and {bucket.name!r} in its body: "
                "leave the header out"
            )
        if not call.identity.may("write", bucket.name):
            raise PermissionDeniedError(f"bucket {bucket.name} may be read by you but not written")
        return bucket

    def _existing(self, bucket: Bucket, asked: Registration) -> Dataset | None:
        found = self._names.find((bucket.name,), asked.dataset, Snapshot(self._committer.newest()))
        name = display_name(bucket.name, asked.dataset)
        if found is not None and found.kind == Kind.VIEW:
            raise InvalidArgumentError(f"{name} is a view and has no objects: name a table")
        if found is not None and asked.mode is IngestMode.CREATE:
            raise AlreadyExistsError(
                f"table {name} already exists: append to it, replace it, or choose another name"
            )
        if found is None and asked.mode is IngestMode.APPEND:
            raise NotFoundError(
                f"no table {name} to append to: register it with mode create or create_append"
            )
        return found

    async def _expand(self, bucket: Bucket, keys: Sequence[str]) -> list[str]:
        found: dict[str, None] = {}
        missing = []
        for key in keys:
            before = len(found)
            async for page in self._dispatcher.over(bucket).list(bucket.name, key):
                found.update((item.key, None) for item in page if _counts(item.key, key))
            if len(found) == before and key not in found:
                missing.append(key)
        if missing:
            raise _missing(bucket, missing)
        return list(found)

    def _check_new(self, existing: Dataset, bucket: Bucket, keys: Sequence[str]) -> None:
        refs = self._names.catalog.list_objects(existing.id, existing.version)
        locate = self._names.registry.locate
        known = {(place[0], place[2]) for place in (locate(ref.bucket, ref.key) for ref in refs)}
        twice = [key for key in keys if (bucket.name, key) in known]
        if twice:
            name = display_name(existing.namespace, existing.name)
            raise AlreadyExistsError(
                f"{len(twice)} of these objects are part of {name} already: {_shown(twice)}; leave them out"
            )

    async def _inspect(self, bucket: Bucket, keys: Sequence[str]) -> dict[str, InspectedObject]:
        footers: dict[str, InspectedObject] = {}
        for start in range(0, len(keys), _INSPECTED_AT_ONCE):
            chunk = keys[start : start + _INSPECTED_AT_ONCE]
            found = await self._dispatcher.over(bucket).inspect([(bucket.name, key) for key in chunk])
            missing = [key for key, footer in zip(chunk, found, strict=True) if footer is None]
            if missing:
                raise _missing(bucket, missing)
            footers.update((key, footer) for key, footer in zip(chunk, found, strict=True) if footer)
        return footers


def _check_key(key: str) -> None:
    parts = key.split("/")
    if not key or key.startswith("/") or ".." in parts or "\\" in key or "\0" in key or "://" in key:
        raise InvalidArgumentError(
            f"{key[:200]!r} is not a key: keys are relative to the bucket's root and stay inside it"
        )
    if _OBJECTS_FOLDER in parts:
        raise InvalidArgumentError(
            f"{key[:200]!r} is below {_OBJECTS_FOLDER}/, which holds the server's own objects"
        )


def _counts(found: str, key: str) -> bool:
    """Tell whether an object that was found below a key is data: other tools keep notes beside it."""
    if found == key.rstrip("/"):
        return True
    below = found.removeprefix(key.rstrip("/")).strip("/").split("/")
    return found.endswith(_SUFFIX) and not any(part.startswith(("_", ".")) for part in below)


def _missing(bucket: Bucket, keys: Sequence[str]) -> NotFoundError:
    return NotFoundError(f"bucket {bucket.name} has no Parquet objects under: {_shown(keys)}")


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _objects(
    footers: dict[str, InspectedObject], wanted: bytes | None
) -> tuple[bytes, tuple[StoredObject, ...]]:
    """Return the dataset's schema, and the objects with theirs, which have to fit it."""
    target = None if wanted is None else pa.ipc.read_schema(pa.py_buffer(wanted))
    added = _partition_fields(list(footers), target)
    schemas: dict[bytes, bytes] = {}
    problems, objects = [], []
    for key, footer in footers.items():
        own = _with_partitions(footer.schema, added)
        target = target or partitions.unmarked(own)
        found = columns.differences(own, target, "the object")
        if found:
            problems.append(f"{key}: {'; '.join(found)}")
        schema = schemas.setdefault(footer.schema, own.serialize().to_pybytes())
        objects.append(StoredObject(key, footer.rows, footer.bytes, "", schema))
    if problems or target is None:
        raise SchemaMismatchError(f"objects do not have the dataset's columns: {_shown(problems)}")
    return wanted or target.serialize().to_pybytes(), tuple(objects)


def _with_partitions(schema: bytes, added: Sequence[columns.Field]) -> pa.Schema:
    own = pa.ipc.read_schema(pa.py_buffer(schema))
    # What stands in the key wins over a column of the object, as in every reader of such folders.
    names = {field.name.lower() for field in added}
    return pa.schema([*(field for field in own if field.name.lower() not in names), *added])


def _partition_fields(keys: Sequence[str], target: pa.Schema | None) -> list[columns.Field]:
    found = [partitions.values(key) for key in keys]
    names = list(found[0])
    for key, values in zip(keys, found, strict=True):
        if list(values) != names:
            raise SchemaMismatchError(
                f"{keys[0]} is partitioned by {', '.join(names) or 'nothing'} and {key} by "
                f"{', '.join(values) or 'nothing'}: register them as two datasets"
            )
    fields = partitions.fields([list(values.values()) for values in found], names)
    known = {} if target is None else columns.by_name(target)
    return [
        field.with_type(pa.utf8())
        if field.name.lower() in known and pa.types.is_string(known[field.name.lower()].type)
        else field
        for field in fields
    ]


def _check_nothing_computed(existing: Dataset) -> None:
    """Refuse objects whose vectors nobody has computed. Raises FailedPreconditionError."""
    for column in embedded_fields(declarations.read(existing.schema)) if existing.schema else ():
        name = display_name(existing.namespace, existing.name)
        raise FailedPreconditionError(
            f"column {column.field.name} of {name} is computed when rows are written, and these are there "
            "already: ingest them, or drop that column first"
        )
