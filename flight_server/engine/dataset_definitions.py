"""CREATE, ALTER, DROP and COMMENT of datasets, views of the catalog and schemas."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import duckdb
import pyarrow as pa

from flight_server.domain import declarations
from flight_server.domain.dataset import CATALOG
from flight_server.engine import arguments, parameters
from flight_server.engine.binding import Binding, bind
from flight_server.engine.dataset_alterations import DatasetAlterations
from flight_server.engine.dataset_columns import DatasetColumns, stored_schema
from flight_server.engine.dataset_objects import DatasetObjects, encoded
from flight_server.engine.kinds import Alter, Comment, CreateSchema, CreateTable, CreateView, Drop
from flight_server.engine.preparation import Preparation
from flight_server.engine.relations import Relations
from flight_server.engine.sessions import EngineSessions
from flight_server.engine.statement import Done, Statement
from flight_server.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError, UnimplementedError
from flight_server.frames.changes import StatementChange, Target, Use
from flight_server.frames.requests import TableName

Cursor = duckdb.DuckDBPyConnection


class DatasetDefinitions:
    """Runs the statements that define datasets, views and schemas."""

    def __init__(self, preparation: Preparation, relations: Relations, sessions: EngineSessions) -> None:
        self._preparation = preparation
        self._stores = relations.stores
        self._columns = DatasetColumns(preparation)
        self._alterations = DatasetAlterations(self._columns, relations, sessions)

    def run(self, cursor: Cursor, statement: Statement, kind: object) -> Done:
        """Run a statement."""
        return _STATEMENTS[type(kind)](self, cursor, statement, kind)

    def _create_table(self, cursor: Cursor, statement: Statement, kind: CreateTable) -> Done:
        target = self._place(statement, kind)
        if kind.query is None:
            if target is None:
                return Done()
            schema = self._columns.schema(cursor, statement, kind.columns or "", kind.path)
            return Done(changes=(_created(target, schema),))
        objects = DatasetObjects(self._stores, None if target is None else target.room)
        try:
            return self._created_from_query(cursor, statement, kind, target, objects)
        except BaseException:
            objects.discard()
            raise

    def _created_from_query(
        self,
        cursor: Cursor,
        statement: Statement,
        kind: CreateTable,
        target: Target | None,
        objects: DatasetObjects,
    ) -> Done:
        """Create a table of what a query returns; without a target it is only bound, as DuckDB does."""
        ready = self._preparation.query(cursor, statement, arguments.named(kind.query or "", kind.columns))
        with self._preparation.available(cursor, statement, ready, with_rows=True) as fill:
            binding, values = _bound(cursor, ready.sql, statement)
            if target is None:
                return Done()
            fill(values)
            schema = stored_schema(binding.schema)
            if not kind.with_data:
                return Done(changes=(_created(target, schema),))
            place = target.bucket, target.dataset_id
            written = objects.write(cursor, (binding.sql, values, binding.schema), place, schema)
        count = sum(item.rows for item in written)
        return Done(count, changes=(_created(target, schema, encoded(written)),), discard=objects.discard)

    def _place(self, statement: Statement, kind: CreateTable | CreateView) -> Target | None:
        """Return where to create something, None where it is there already and that is well.

        Raises AlreadyExistsError, InvalidArgumentError.
        """
        wanted = "table" if isinstance(kind, CreateTable) else "view"
        target = statement.questions.target(kind.path, Use.CREATE)
        if not target.exists:
            return replace(target, kind=wanted)
        if target.kind != wanted and not kind.if_not_exists:
            raise AlreadyExistsError(
                f"{target.name} is a {target.kind}: drop it first, or choose another name"
            )
        if not kind.replaces and not kind.if_not_exists:
            raise AlreadyExistsError(f"{wanted} {target.name} already exists: drop it, or CREATE OR REPLACE")
        return None if kind.if_not_exists else target

    def _create_view(self, cursor: Cursor, statement: Statement, kind: CreateView) -> Done:
        target = self._place(statement, kind)
        if target is None:
            return Done()
        query = arguments.named(kind.query, kind.columns)
        state = statement.caller.state
        for name in self._preparation.names(cursor, query):
            if state.table(name.path) or state.view(name.path):
                raise InvalidArgumentError(
                    f"{name.path[-1]} is temporary, and a view of the catalog outlives it: CREATE TEMP VIEW"
                )
        definition = self._preparation.qualified(cursor, statement, query)
        own = TableName((CATALOG, target.namespace, target.name))
        if any(_folded(name) == _folded(own) for name in self._preparation.names(cursor, definition)):
            raise InvalidArgumentError(f"view {target.name} cannot read itself")
        ready = self._preparation.query(cursor, statement, definition)
        with self._preparation.available(cursor, statement, ready):
            schema = bind(cursor, ready.sql).schema
        mode = "replace" if target.exists else "create"
        return Done(changes=(_change(target, mode, schema=_message(schema), definition=definition),))

    def _create_schema(self, _cursor: Cursor, statement: Statement, kind: CreateSchema) -> Done:
        name = _schema_name(kind.path)
        found = statement.questions.namespace(name)
        if found.exists and not kind.if_not_exists:
            raise AlreadyExistsError(f"schema {found.name} already exists")
        if found.exists:
            return Done()
        return Done(changes=(StatementChange("create", "schema", found.name, "", found.bucket, ""),))

    def _drop(self, _cursor: Cursor, statement: Statement, kind: Drop) -> Done:
        if kind.what == "SCHEMA":
            return self._drop_schema(statement, kind)
        target = _existing(statement, kind)
        if target is None:
            return Done()
        if target.kind != kind.what.lower():
            raise InvalidArgumentError(f"{target.name} is a {target.kind}: use DROP {target.kind.upper()}")
        return Done(changes=(_change(target, "drop"),))

    def _drop_schema(self, statement: Statement, kind: Drop) -> Done:
        found = statement.questions.namespace(_schema_name(kind.path))
        if not found.exists:
            if kind.if_exists:
                return Done()
            raise NotFoundError(f"no schema {found.name!r}")
        if found.held and not kind.cascade:
            names = ", ".join(item.name for item in found.held[:5])
            raise InvalidArgumentError(
                f"schema {found.name} is not empty, it holds {names}: drop them, or CASCADE"
            )
        drops = tuple(_change(item, "drop") for item in found.held)
        return Done(changes=(*drops, StatementChange("drop", "schema", found.name, "", found.bucket, "")))

    def _alter(self, cursor: Cursor, statement: Statement, kind: Alter) -> Done:
        target = _existing(statement, kind)
        if target is None:
            return Done()
        if target.kind != kind.what.lower():
            raise InvalidArgumentError(f"{target.name} is a {target.kind}: use ALTER {target.kind.upper()}")
        return self._alterations.run(cursor, statement, target, kind.action)

    def _comment(self, _cursor: Cursor, statement: Statement, kind: Comment) -> Done:
        path = kind.path[:-1] if kind.what == "COLUMN" else kind.path
        if not path:
            raise InvalidArgumentError("COMMENT ON COLUMN takes the table's name too: table.column")
        if statement.caller.state.table(path) or statement.caller.state.view(path):
            raise UnimplementedError("temporary tables take no comments, which nobody else would read")
        target = statement.questions.target(path, Use.CHANGE)
        schema = declarations.read(target.schema)
        if kind.what == "COLUMN":
            at = declarations.position(schema, kind.path[-1])
            field = declarations.with_text(schema.field(at), declarations.COMMENT, kind.text)
            schema = schema.set(at, field)
        else:
            schema = declarations.with_comment(schema, kind.text)
        return Done(changes=(_change(target, "alter", schema=_message(schema)),))


_STATEMENTS: dict[type, Callable[[DatasetDefinitions, Cursor, Statement, Any], Done]] = {
    CreateTable: DatasetDefinitions._create_table,
    CreateView: DatasetDefinitions._create_view,
    CreateSchema: DatasetDefinitions._create_schema,
    Drop: DatasetDefinitions._drop,
    Alter: DatasetDefinitions._alter,
    Comment: DatasetDefinitions._comment,
}


def _existing(statement: Statement, kind: Drop | Alter) -> Target | None:
    """Return what a statement names, None where it may be missing. Raises NotFoundError."""
    try:
        return statement.questions.target(kind.path, Use.CHANGE)
    except NotFoundError:
        if kind.if_exists:
            return None
        raise


def _bound(cursor: Cursor, sql: str, statement: Statement) -> tuple[Binding, parameters.Values | None]:
    if not statement.messages:
        return bind(cursor, sql), None
    binding, bound = parameters.bind_values(cursor, sql, statement.messages)
    if bound.count != 1:
        raise InvalidArgumentError(f"this statement runs once: bind one row of parameters, not {bound.count}")
    return binding, next(bound.rows())


def _message(schema: pa.Schema) -> bytes:
    return schema.serialize().to_pybytes()


def _created(
    target: Target, schema: pa.Schema, objects: tuple[tuple[str, int, int, str], ...] = ()
) -> StatementChange:
    mode = "replace" if target.exists else "create"
    return _change(target, mode, schema=_message(schema), objects=objects)


def _change(target: Target, mode: str, **parts: Any) -> StatementChange:
    place = target.namespace, target.name, target.bucket, target.dataset_id
    return StatementChange(mode, target.kind, *place, base_version=target.version, **parts)


def _folded(name: TableName) -> tuple[str, ...]:
    return tuple(part.lower() for part in name.path)


def _schema_name(path: tuple[str, ...]) -> str:
    if len(path) > 2 or (len(path) == 2 and path[0].lower() != CATALOG):
        raise InvalidArgumentError(f"the only catalog is {CATALOG}: write the name of the schema alone")
    return path[-1]
