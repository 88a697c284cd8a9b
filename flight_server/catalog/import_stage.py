"""Where an import waits until all of it is known: temporary tables, so that its size needs no memory.

They are filled before the write transaction begins, which then takes over their rows set by set.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, TypeAlias

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    MetaData,
    Table,
    Text,
    delete,
    distinct,
    func,
    insert,
    select,
)

from flight_server.catalog.tables import Instant, datasets
from flight_server.domain.bucket import PRIMARY
from flight_server.domain.dataset import ImportedDataset, fold_name
from flight_server.errors import InvalidArgumentError

CHUNK_ROWS = 5_000
"""Rows handed to the database at once; bounds the memory of an import."""

Row: TypeAlias = dict[str, Any]

_metadata = MetaData()

_pieces = Table(
    "staged_pieces",
    _metadata,
    Column("number", Integer, primary_key=True),
    Column("dataset", Text, nullable=False),
    Column("namespace", Text),
    Column("name", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    prefixes=["TEMPORARY"],
)

staged_refs = Table(
    "staged_refs",
    _metadata,
    Column("number", Integer, primary_key=True),
    Column("dataset", Text, nullable=False),
    Column("bucket", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("schema", Integer),
    Column("rows", BigInteger),
    Column("bytes", BigInteger, nullable=False),
    prefixes=["TEMPORARY"],
)

staged_schemas = Table(
    "staged_schemas",
    _metadata,
    Column("number", Integer, primary_key=True),
    Column("schema_id", Integer, nullable=False),
    prefixes=["TEMPORARY"],
)
"""Number of a schema in the stage → its id in the catalog."""


class ImportStage:
    """The staged rows of one import; `schemas` are its schemas by number."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._numbers: dict[bytes, int] = {}

    @property
    def schemas(self) -> list[bytes]:
        """The schemas of all objects, each at its number."""
        return list(self._numbers)

    def fill(self, pieces: Iterable[ImportedDataset]) -> None:
        """Take all pieces; of a ref that a dataset has twice the first counts.

        Raises InvalidArgumentError when the pieces of one dataset have different names.
        """
        remaining = iter(pieces)
        while chunk := _chunk(remaining):
            insert_chunks(self._connection, _pieces, map(_piece_row, chunk))
            insert_chunks(self._connection, staged_refs, self._ref_rows(chunk))
        columns = staged_refs.c
        first = select(func.min(columns.number)).group_by(columns.dataset, columns.bucket, columns.key)
        self._connection.execute(delete(staged_refs).where(columns.number.not_in(first)))
        self._check_names()

    def _ref_rows(self, chunk: list[ImportedDataset]) -> Iterator[Row]:
        for piece in chunk:
            for ref in piece.objects:
                known = (
                    None if ref.schema is None else self._numbers.setdefault(ref.schema, len(self._numbers))
                )
                yield {
                    "dataset": piece.id,
                    "bucket": ref.bucket,
                    "key": ref.key,
                    "schema": known,
                    "rows": ref.rows,
                    "bytes": ref.bytes,
                }

    def _check_names(self) -> None:
        columns = _pieces.c
        several = (
            select(columns.dataset)
            .group_by(columns.dataset)
            .having(func.count(distinct(columns.name)) > 1)
            .order_by(func.min(columns.number))
            .limit(1)
        )
        id = self._connection.execute(several).scalar()
        if id is not None:
            one, other = self._connection.execute(
                select(columns.name)
                .where(columns.dataset == id)
                .group_by(columns.name)
                .order_by(func.min(columns.number))
                .limit(2)
            ).scalars()
            raise InvalidArgumentError(
                f"the manifest gives dataset {id} two names, {one!r} and {other!r}; one id has one name"
            )

    def drop_known(self) -> int:
        """Forget the datasets that the catalog has, and return how many these are."""
        known = select(datasets.c.id)
        among = select(func.count(distinct(_pieces.c.dataset))).where(_pieces.c.dataset.in_(known))
        count: int = self._connection.execute(among).scalar_one()
        for table in (_pieces, staged_refs):
            self._connection.execute(delete(table).where(table.c.dataset.in_(known)))
        return count

    def totals(self) -> tuple[int, int, int]:
        """Return how many datasets, objects and known rows are staged."""
        count = select(func.count(distinct(_pieces.c.dataset)))
        refs = select(func.count(), func.coalesce(func.sum(staged_refs.c.rows), 0)).select_from(staged_refs)
        objects, rows = self._connection.execute(refs).one()
        return self._connection.execute(count).scalar_one(), objects, int(rows)

    def namespaces(self) -> dict[str, str]:
        """Return the namespaces of all staged datasets: folded → as given."""
        found = self._connection.execute(select(_pieces.c.namespace).distinct()).scalars()
        return {fold_name(name or PRIMARY): name or PRIMARY for name in found}

    def datasets(self) -> Iterator[Row]:
        """Yield id, namespace, name and `created_at` of each dataset, in the order of the manifest."""
        columns = _pieces.c
        placed = func.min(columns.number).filter(columns.namespace.is_not(None))
        grouped = (
            select(
                columns.dataset,
                func.min(columns.number).label("first"),
                placed.label("placed"),
                func.max(columns.created_at).label("created_at"),
            )
            .group_by(columns.dataset)
            .subquery()
        )
        named, located = _pieces.alias(), _pieces.alias()
        statement = (
            select(grouped.c.dataset, located.c.namespace, named.c.name, grouped.c.created_at)
            .join(named, named.c.number == grouped.c.first)
            .join(located, located.c.number == grouped.c.placed, isouter=True)
            .order_by(grouped.c.first)
        )
        for id, namespace, name, created_at in self._stream(statement):
            yield {
                "id": id,
                "namespace": fold_name(namespace or PRIMARY),
                "name": name,
                "created_at": created_at,
            }

    def schemas_of_datasets(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield each dataset with the numbers of its objects' schemas, in the order of its objects."""
        refs = staged_refs.c
        used = (
            select(refs.dataset, refs.schema, func.min(refs.number).label("first"))
            .where(refs.schema.is_not(None))
            .group_by(refs.dataset, refs.schema)
            .subquery()
        )
        ids = select(_pieces.c.dataset).distinct().subquery()
        statement = (
            select(ids.c.dataset, used.c.schema)
            .join(used, used.c.dataset == ids.c.dataset, isouter=True)
            .order_by(ids.c.dataset, used.c.first)
        )
        for id, rows in groupby(self._stream(statement), key=itemgetter(0)):
            yield id, tuple(number for _, number in rows if number is not None)

    def _stream(self, statement: Any) -> Iterator[Any]:
        yield from self._connection.execute(statement, execution_options={"yield_per": CHUNK_ROWS})


@contextmanager
def staged(connection: Connection) -> Iterator[ImportStage]:
    """Make a stage on a connection, and remove it afterwards, whatever became of its rows."""
    _metadata.drop_all(connection)
    _metadata.create_all(connection)
    connection.commit()
    try:
        yield ImportStage(connection)
    finally:
        connection.rollback()
        _metadata.drop_all(connection)
        connection.commit()


def insert_chunks(connection: Connection, table: Table, rows: Iterable[Row]) -> None:
    """Insert any number of rows, some at a time."""
    remaining = iter(rows)
    while chunk := list(islice(remaining, CHUNK_ROWS)):
        connection.execute(insert(table), chunk)


def _chunk(pieces: Iterator[ImportedDataset]) -> list[ImportedDataset]:
    """Return the next pieces, until they have enough rows together."""
    chunk: list[ImportedDataset] = []
    rows = 0
    for piece in pieces:
        chunk.append(piece)
        rows += 1 + len(piece.objects)
        if rows >= CHUNK_ROWS:
            break
    return chunk


def _piece_row(piece: ImportedDataset) -> Row:
    return {
        "dataset": piece.id,
        "namespace": piece.namespace,
        "name": piece.name,
        "created_at": piece.created_at,
    }
