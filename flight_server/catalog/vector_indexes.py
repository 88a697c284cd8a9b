"""Records of vector indexes, and leases: who builds one, so that no two servers do.

A record's `column` is the id of the column, which renaming it does not change.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    Row,
    Select,
    Table,
    Text,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from flight_server.catalog.tables import dataset_versions, datasets, metadata
from flight_server.domain.vector import IndexKind, IndexRecord, Metric
from flight_server.errors import ConflictError

vector_indexes = Table(
    "vector_indexes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("dataset", Text, nullable=False),
    Column("bucket", Text, nullable=False),
    Column("column", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("metric", Text, nullable=False),
    Column("table", Text, nullable=False),
    Column("lance_version", Integer, nullable=False),
    Column("dataset_version", Integer, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("dim", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("params", JSON, nullable=False),
    Column("search", JSON, nullable=False),
    Column("since", Integer, nullable=False),
    # The commit that dropped it, or put another in its place; its files may be in use a little longer.
    Column("dropped", Integer),
    Index("vector_indexes_of_dataset", "dataset"),
    Index("vector_indexes_of_bucket", "bucket"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    # Seconds since 1970.
    Column("until", Float, nullable=False),
)

_FIELDS = (
    "id", "dataset", "bucket", "column", "kind", "metric", "table", "lance_version", "dataset_version",
    "rows", "dim", "bytes", "params", "search",
)  # fmt: skip
_IS_LIVE = vector_indexes.c.dropped.is_(None)
_RECORDS = select(*vector_indexes.c[_FIELDS])
_OF_DATASET = _RECORDS.where(vector_indexes.c.dataset == bindparam("dataset"), _IS_LIVE).order_by(
    vector_indexes.c.id
)
_NEWEST = (
    select(func.max(dataset_versions.c.version))
    .where(dataset_versions.c.dataset == vector_indexes.c.dataset)
    .scalar_subquery()
)


def _record(row: Sequence[Any]) -> IndexRecord:
    fields = dict(zip(_FIELDS, row, strict=True))
    fields |= {"kind": IndexKind(fields["kind"]), "metric": Metric(fields["metric"])}
    return IndexRecord(dataset_id=fields.pop("dataset"), **fields)


def _values(record: IndexRecord) -> dict[str, Any]:
    values = {name: getattr(record, "dataset_id" if name == "dataset" else name) for name in _FIELDS}
    return values | {"params": dict(record.params), "search": dict(record.search)}


def of_dataset(connection: Connection, dataset_id: str) -> tuple[IndexRecord, ...]:
    """Return the indexes of a dataset."""
    return tuple(map(_record, connection.execute(_OF_DATASET, {"dataset": dataset_id})))


def of_buckets(connection: Connection, bucket: str | None) -> list[tuple[IndexRecord, int]]:
    """Return the indexes of a bucket, None for all, each with the newest version of its dataset."""
    statement: Select[Any] = select(*vector_indexes.c[_FIELDS], _NEWEST).where(_IS_LIVE)
    if bucket is not None:
        statement = statement.where(vector_indexes.c.bucket == bucket)
    rows = connection.execute(statement.order_by(vector_indexes.c.id))
    return [(_record(row[:-1]), row[-1] or 0) for row in rows]


def lagging(connection: Connection) -> list[tuple[IndexRecord, int]]:
    """Return the indexes whose datasets have newer versions, each with the newest one."""
    is_newest_used = vector_indexes.c.dataset_version >= _NEWEST
    statement = (
        select(*vector_indexes.c[_FIELDS], _NEWEST)
        .join(datasets, datasets.c.id == vector_indexes.c.dataset)
        .where(_IS_LIVE, datasets.c.dropped.is_(None), ~is_newest_used)
    )
    return [(_record(row[:-1]), row[-1]) for row in connection.execute(statement)]


def put(connection: Connection, record: IndexRecord, replaced: str | None, commit: int) -> None:
    """Record an index in the place of another. Raises ConflictError when that is not there any more."""
    if replaced is not None:
        drop(connection, replaced, commit)
    connection.execute(insert(vector_indexes), {**_values(record), "since": commit})


def advance(connection: Connection, record: IndexRecord, before: IndexRecord) -> None:
    """Record what an index has become. Raises ConflictError when it is not what it was before."""
    is_same = (
        (vector_indexes.c.id == before.id)
        & (vector_indexes.c.lance_version == before.lance_version)
        & (vector_indexes.c.table == before.table)
        & _IS_LIVE
    )
    if not connection.execute(update(vector_indexes).where(is_same).values(**_values(record))).rowcount:
        raise ConflictError("the index was changed or dropped meanwhile")


def drop(connection: Connection, index_id: str, commit: int) -> None:
    """Record that an index is no more. Raises ConflictError when it is not there."""
    is_live = (vector_indexes.c.id == index_id) & _IS_LIVE
    if not connection.execute(update(vector_indexes).where(is_live).values(dropped=commit)).rowcount:
        raise ConflictError("the index was dropped or built anew meanwhile: nothing was changed; try again")


def unused(connection: Connection) -> list[tuple[IndexRecord, bool]]:
    """Return the indexes that no search uses, and whether they were dropped themselves.

    Others belong to datasets that are gone.
    """
    statement = (
        select(*vector_indexes.c[_FIELDS], vector_indexes.c.dropped.is_not(None))
        .join(datasets, datasets.c.id == vector_indexes.c.dataset, isouter=True)
        .where(or_(~_IS_LIVE, datasets.c.id.is_(None), datasets.c.dropped.is_not(None)))
    )
    return [(_record(row[:-1]), bool(row[-1])) for row in connection.execute(statement)]


def forget(connection: Connection, index_id: str) -> None:
    """Forget an index whose files are gone."""
    connection.execute(delete(vector_indexes).where(vector_indexes.c.id == index_id))


def forget_bucket(connection: Connection, bucket: str) -> None:
    """Forget the indexes of a bucket."""
    connection.execute(delete(vector_indexes).where(vector_indexes.c.bucket == bucket))


def distrust(connection: Connection) -> None:
    """Have all indexes looked at anew, because they may have gone on since this catalog was written."""
    connection.execute(update(vector_indexes).values(dataset_version=0))


def any_live(connection: Connection) -> bool:
    """Tell whether there is an index."""
    return connection.execute(select(vector_indexes.c.id).where(_IS_LIVE).limit(1)).first() is not None


def acquire(connection: Connection, name: str, owner: str, seconds: float) -> bool:
    """Take a lease, or renew one's own; return whether it is had. One that has run out is anybody's."""
    now = time.time()
    held: Row[Any] | None = connection.execute(select(leases).where(leases.c.name == name)).first()
    if held is not None and held.owner != owner and held.until > now:
        return False
    values = {"owner": owner, "until": now + seconds}
    if held is None:
        connection.execute(insert(leases), {"name": name, **values})
    else:
        connection.execute(update(leases).where(leases.c.name == name).values(**values))
    return True


def release(connection: Connection, name: str, owner: str) -> None:
    """Give a lease back."""
    connection.execute(delete(leases).where(leases.c.name == name, leases.c.owner == owner))


def release_all(connection: Connection, name: str) -> None:
    """End a lease, whoever has it."""
    connection.execute(delete(leases).where(leases.c.name == name))


def run_out(connection: Connection, prefix: str) -> list[str]:
    """Return the names of leases that have run out, of those that begin so."""
    is_meant = leases.c.name.startswith(prefix, autoescape=True) & (leases.c.until <= time.time())
    return list(connection.execute(select(leases.c.name).where(is_meant)).scalars())


def named(record: IndexRecord, column: str) -> IndexRecord:
    """Return a record with the name of its column in the place of the id."""
    return replace(record, column=column)
