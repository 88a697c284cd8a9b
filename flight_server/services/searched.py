"""Datasets that are searched: found by profile and name, and described as engine processes read them."""

from dataclasses import replace
from typing import Any

import pyarrow as pa

from flight_server.dispatch.vectors import Searched
from flight_server.domain import declarations
from flight_server.domain.bucket import Bucket
from flight_server.domain.dataset import Dataset, DatasetFilter, Kind, Namespace, display_name, fold_name
from flight_server.domain.identity import Identity
from flight_server.domain.staging import Snapshot
from flight_server.domain.trial import BOOKKEEPING
from flight_server.domain.vector import IndexRecord
from flight_server.errors import InvalidArgumentError, NotFoundError
from flight_server.frames.requests import TableName
from flight_server.services.resolution import Names
from flight_server.services.statement_resolution import StatementResolution


class SearchedDatasets:
    """Finds datasets of profiles as they are now."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.catalog = names.catalog

    def profile(self, identity: Identity, written: str) -> Bucket:
        """Return the bucket of a profile that the caller may read. Raises NotFoundError."""
        return self.names.registry.profile(identity, fold_name(written))

    def writable_profile(self, identity: Identity, written: str) -> Bucket:
        """Return the bucket of a profile that the caller may change.

        Raises NotFoundError, PermissionDeniedError or FailedPreconditionError.
        """
        bucket = self.profile(identity, written)
        self.names.check_change(identity, Namespace(bucket.name, bucket.name))
        return bucket

    def table(self, identity: Identity, bucket: Bucket, name: str) -> Dataset:
        """Return a table of a profile by its name. Raises NotFoundError or InvalidArgumentError."""
        snapshot = self.snapshot()
        found = self.names.find((bucket.name,), name, snapshot)
        if found is None:
            raise self.names.missing(identity, (bucket.name, name), snapshot)
        if found.kind == Kind.VIEW:
            raise InvalidArgumentError(
                f"{shown(found)} is a view and has no vectors of its own: name a table"
            )
        return found

    def with_vectors(self, bucket: Bucket) -> list[Dataset]:
        """Return the tables of a profile that are there to be searched."""
        found = self.catalog.list_datasets(self.snapshot().commit, DatasetFilter((bucket.name,)))
        tables = [each for each in found if each.kind == Kind.TABLE and each.name not in BOOKKEEPING]
        return [each for each in tables if _holds_vectors(each)]

    def version(self, record: IndexRecord, version: int) -> Dataset | None:
        """Return a version of an index's dataset, None when it is gone."""
        return self.catalog.find_version(record.dataset_id, self.snapshot().commit, version, None)

    def searched(self, identity: Identity, dataset: Dataset) -> Searched:
        """Describe a dataset version for an engine process. Raises FailedPreconditionError."""
        resolution = StatementResolution(self.names, identity, (), Snapshot(dataset.commit))
        relation = resolution.relation(dataset)
        bucket = self.bucket_of(dataset)
        return Searched(bucket, dataset.id, relation, resolution.describe([relation])[relation])

    def bucket_of(self, dataset: Dataset) -> str:
        """Return the bucket that a dataset's schema belongs to. Raises NotFoundError."""
        found = self.names.registry.find(dataset.namespace)
        if found is not None:
            return found.name
        made = self.catalog.list_namespaces(self.snapshot().commit)
        for space in made:
            if space.name == dataset.namespace:
                return self.names.registry.known(space.bucket).name
        raise NotFoundError(f"schema {dataset.namespace} was dropped meanwhile")

    def named(
        self, identity: Identity, path: tuple[str, ...], snapshot: Snapshot
    ) -> tuple[Dataset, Searched]:
        """Return a dataset by its path as a statement at a snapshot sees it. Raises NotFoundError."""
        resolution = StatementResolution(self.names, identity, (), snapshot)
        (relation,) = resolution.resolve([TableName(path)])
        dataset = resolution.dataset(relation)
        if dataset.kind == Kind.VIEW:
            raise InvalidArgumentError(
                f"{shown(dataset)} is a view and has no vectors of its own: name a table"
            )
        described = resolution.describe([relation])[relation]
        return dataset, Searched(self.bucket_of(dataset), dataset.id, relation, described)

    def snapshot(self) -> Snapshot:
        """Return the present."""
        return Snapshot(self.catalog.newest_commit())


def shown(dataset: Dataset) -> str:
    """Return the name by which people know a dataset."""
    return display_name(dataset.namespace, dataset.name)


def with_column_id(record: IndexRecord, dataset: Dataset) -> IndexRecord:
    """Return the record of an index with the id of its column in the place of the name."""
    schema = declarations.read(dataset.schema or b"")
    ids = {field.name: declarations.column_id(field) for field in schema}
    return replace(record, column=ids.get(record.column, record.column))


def with_column_name(record: IndexRecord, dataset: Dataset) -> IndexRecord:
    """Return the record of an index with the name of its column in the place of the id.

    Raises NotFoundError when the column was dropped.
    """
    for field in declarations.read(dataset.schema or b""):
        if declarations.column_id(field) == record.column:
            return replace(record, column=field.name)
    raise NotFoundError(f"the indexed column of {shown(dataset)} was dropped: drop the index too")


def _holds_vectors(dataset: Dataset) -> bool:
    if dataset.schema is None:
        return False
    return any(_is_vector(field.type) for field in declarations.read(dataset.schema))


def _is_vector(kind: Any) -> bool:
    is_list = pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return bool(is_list and pa.types.is_floating(kind.value_type))
