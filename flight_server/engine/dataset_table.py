"""The hidden table in which a statement changes rows of a dataset.

It has the dataset's columns, defaults and constraints, and at first no rows. The objects that hold rows
which the statement may change are loaded; what is in the table afterwards is written as new objects, which
take the place of those. All other objects stay as they are and are not read but for their keys.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count

import duckdb

from flight_server.domain import declarations
from flight_server.domain.dataset import StoredObject
from flight_server.domain.declarations import Constraint
from flight_server.engine import quote
from flight_server.engine.computed_columns import kept_vectors
from flight_server.engine.dataset_objects import DatasetObjects, encoded
from flight_server.engine.declared import column_definitions, constraint_definitions
from flight_server.engine.instance import hidden_path
from flight_server.engine.relations import select_objects
from flight_server.engine.sessions import EngineSessions
from flight_server.errors import InvalidArgumentError
from flight_server.frames.changes import StatementChange, Target, TargetObject
from flight_server.frames.requests import ObjectGroup, Relation


class DatasetTable:
    """The rows of a dataset that a statement may change; `loaded` are the objects they come from.

    `object_column` is the column of a scan that tells which object a row is in: none of the dataset's.
    """

    def __init__(
        self,
        cursor: duckdb.DuckDBPyConnection,
        sessions: EngineSessions,
        target: Target,
        objects: DatasetObjects,
    ) -> None:
        self.schema = declarations.read(target.schema)
        known = {name.lower() for name in self.schema.names}
        self.object_column = next(name for at in count() if (name := f"~object{at}") not in known)
        self.loaded: list[TargetObject] = []
        self._cursor = cursor
        self._sessions = sessions
        self._target = target
        self.objects = objects
        self.place = target.bucket, target.dataset_id
        self._rest = list(target.objects)
        self._made: list[tuple[str, tuple[str, ...]]] = []
        self.path = self.new_table(declarations.constraints(self.schema), is_checked=True)

    def new_table(self, constraints: Sequence[Constraint] = (), is_checked: bool = False) -> tuple[str, ...]:
        """Create a hidden table with the dataset's columns; one that is not checked takes NULL anywhere."""
        path = hidden_path(self._sessions.new_relation(self._target.name))
        columns = column_definitions(self._cursor, self.schema, is_checked=is_checked)
        parts = [*columns, *constraint_definitions(constraints)]
        self._cursor.execute(f"CREATE TABLE {quote.path(path)}({', '.join(parts)})")
        self._made.append(("TABLE", path))
        return path

    def drop(self) -> None:
        """Drop all hidden tables and views that were made."""
        for what, path in reversed(self._made):
            self._cursor.execute(f"DROP {what} IF EXISTS {quote.path(path)}")

    @property
    def is_loaded(self) -> bool:
        """Tell whether nothing of the dataset is elsewhere."""
        return not self._rest

    @contextmanager
    def scan(self) -> Iterator[tuple[str, ...]]:
        """Name a view of what is not loaded, with the `object_column`."""
        path = hidden_path(self._sessions.new_relation(self._target.name))
        query = select_objects(
            self._cursor, self.objects.stores, target_relation(self._target, self._rest), self.object_column
        )
        self._cursor.execute(f"CREATE VIEW {quote.path(path)} AS {query}")
        self._made.append(("VIEW", path))
        yield path

    def load(self, paths: set[str] | None = None) -> None:
        """Load the objects with these storage paths, or all that are not loaded."""
        stores = self.objects.stores
        chosen = [item for item in self._rest if paths is None or stores[item.bucket].path(item.key) in paths]
        if not chosen:
            return
        query = select_objects(self._cursor, stores, target_relation(self._target, chosen))
        self._cursor.execute(f"INSERT INTO {quote.path(self.path)} {query}")
        self.loaded += chosen
        self._rest = [item for item in self._rest if item not in chosen]

    def check_keys(self) -> None:
        """Refuse rows whose keys are those of rows that are not loaded. Raises InvalidArgumentError."""
        for key in declarations.keys(self.schema) if self._rest else ():
            columns = [quote.identifier(name) for name in key.columns]
            rest = select_objects(
                self._cursor, self.objects.stores, target_relation(self._target, self._rest)
            )
            condition = " AND ".join(f"own.{name} = rest.{name}" for name in columns)
            shown = ", ".join(f"own.{name}::VARCHAR" for name in columns)
            found = self._cursor.execute(
                f"SELECT {shown} FROM {quote.path(self.path)} own "  # noqa: S608 - quoted
                f"SEMI JOIN ({rest}) rest ON {condition} LIMIT 1"
            ).fetchall()
            if found:
                raise duplicate_key(key, found[0])

    def key_searches(self, scan: Sequence[str], rows: Sequence[str]) -> Iterator[str]:
        """Yield a query for each key: in a scan, the objects with rows that have a key of other rows."""
        for key in declarations.keys(self.schema):
            names = map(quote.identifier, key.columns)
            condition = " AND ".join(f"held.{name} = brought.{name}" for name in names)
            yield (
                f"SELECT DISTINCT {quote.identifier(self.object_column)} FROM {quote.path(scan)} held "  # noqa: S608
                f"SEMI JOIN {quote.path(rows)} brought ON {condition}"
            )

    def change(self) -> StatementChange:
        """Write the rows as objects; return the change that puts them in the place of those loaded."""
        rows = self._kept_rows(), None, self.schema
        return self.change_of(self.objects.write(self._cursor, rows, self.place, self.schema))

    def change_of(self, written: list[StoredObject]) -> StatementChange:
        """Return the change that puts objects in the place of those loaded."""
        target = self._target
        return StatementChange(
            "rewrite" if self.loaded else "append",
            target.kind,
            target.namespace,
            target.name,
            target.bucket,
            target.dataset_id,
            target.version,
            tuple((item.bucket, item.key) for item in self.loaded),
            encoded(written),
        )

    def _kept_rows(self) -> str:
        """Return a query of the rows, without vectors that have to be computed anew."""
        loaded = None
        if self.loaded:
            relation = target_relation(self._target, self.loaded)
            loaded = select_objects(self._cursor, self.objects.stores, relation)
        return kept_vectors(self.schema, quote.path(self.path), loaded)


def target_relation(target: Target, objects: Sequence[TargetObject]) -> Relation:
    """Return what reads some objects of a dataset."""
    groups: dict[bytes, list[tuple[str, str]]] = {}
    for item in objects:
        groups.setdefault(item.schema, []).append((item.bucket, item.key))
    return Relation(target.schema, tuple(ObjectGroup(own, tuple(of)) for own, of in groups.items()))


def duplicate_key(key: Constraint, values: Sequence[object]) -> InvalidArgumentError:
    """Return the error for a row whose key another one has."""
    shown = ", ".join(f"{name}: {value}" for name, value in zip(key.columns, values, strict=True))
    kind = "primary key" if key.kind == declarations.PRIMARY_KEY else "unique"
    return InvalidArgumentError(f'Duplicate key "{shown[:200]}" violates {kind} constraint')
