"""ALTER TABLE of datasets: a new schema, and new objects only where values become others."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import duckdb
import pyarrow as pa

from flight_server.domain import columns as column_types
from flight_server.domain import declarations
from flight_server.domain.declarations import CHECK, DEFAULT, INITIAL, PRIMARY_KEY, Constraint
from flight_server.engine import quote
from flight_server.engine.affected import UNSTABLE_FUNCTIONS
from flight_server.engine.alterations import (
    AddColumn,
    AddConstraint,
    DropColumn,
    DropConstraint,
    RenameColumn,
    RenameTable,
    SetDefault,
    SetNotNull,
    SetSortKey,
    SetType,
)
from flight_server.engine.binding import sql_types
from flight_server.engine.computed_columns import check_alteration
from flight_server.engine.dataset_columns import DatasetColumns, unused
from flight_server.engine.dataset_objects import DatasetObjects, encoded
from flight_server.engine.dataset_table import duplicate_key, target_relation
from flight_server.engine.declared import column_definitions, definitions
from flight_server.engine.instance import hidden_path
from flight_server.engine.relations import Relations, select_objects
from flight_server.engine.sessions import EngineSessions
from flight_server.engine.statement import Done, Statement
from flight_server.engine.tokens import Reader
from flight_server.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError, UnimplementedError
from flight_server.frames.changes import StatementChange, Target

Cursor = duckdb.DuckDBPyConnection


class DatasetAlterations:
    """Runs ALTER; what rows must hold from now on is looked up before."""

    def __init__(self, columns: DatasetColumns, relations: Relations, sessions: EngineSessions) -> None:
        self._columns = columns
        self._stores = relations.stores
        self._sessions = sessions

    def run(self, cursor: Cursor, statement: Statement, target: Target, action: object) -> Done:
        """Alter a dataset or a view. Raises InvalidArgumentError, NotFoundError, AlreadyExistsError."""
        if isinstance(action, RenameTable):
            return Done(changes=(_change(target, "rename", new_name=action.new_name),))
        if target.kind != "table":
            raise UnimplementedError("of a view only the name can be altered: CREATE OR REPLACE VIEW")
        check_alteration(declarations.read(target.schema), action)
        if isinstance(action, SetType):
            return self._set_type(cursor, target, action)
        schema = _ACTIONS[type(action)](self, cursor, statement, target, action)
        return Done() if schema is None else Done(changes=(_altered(target, schema),))

    def _rows(self, cursor: Cursor, target: Target) -> str:
        return select_objects(cursor, self._stores, target_relation(target, target.objects))

    def _has(self, cursor: Cursor, target: Target, condition: str) -> bool:
        """Tell whether a row meets a condition."""
        sql = f"SELECT 1 FROM ({self._rows(cursor, target)}) AS t WHERE {condition} LIMIT 1"  # noqa: S608 - gated
        return bool(target.objects) and bool(cursor.execute(sql).fetchall())

    def _add_column(
        self, cursor: Cursor, _statement: Statement, target: Target, action: AddColumn
    ) -> pa.Schema | None:
        schema = declarations.read(target.schema)
        if action.name.lower() in {name.lower() for name in schema.names}:
            if action.if_not_exists:
                return None
            raise AlreadyExistsError(f"column {action.name!r} exists already")
        definition = self._columns.definition(cursor, action.definition, target.name)
        if definition.constraints or len(definition.columns) != 1:
            raise UnimplementedError(
                "a new column takes a type, a DEFAULT and NOT NULL here: add its constraint afterwards"
            )
        column = definition.columns[0]
        field = self._columns.fields(cursor, [column])[0]
        initial = None if column.default is None else self._constant(cursor, column.default, column.kind)
        if initial is None and not column.is_nullable and self._has(cursor, target, "true"):
            raise InvalidArgumentError(
                f"NOT NULL constraint failed: {target.name}.{column.name}: give the rows there are a DEFAULT"
            )
        return declarations.added(schema, [declarations.with_text(field, INITIAL, initial)])

    def _constant(self, cursor: Cursor, expression: str, kind: str) -> str | None:
        """Return what a default is now, as a constant in SQL, None for NULL."""
        names = {token.value.lower() for token in Reader(expression).tokens}
        if not UNSTABLE_FUNCTIONS.isdisjoint(names):
            raise UnimplementedError(
                "this DEFAULT differs from row to row: add the column without it, UPDATE, then SET DEFAULT"
            )
        sql = f"SELECT CAST(CAST(({expression}) AS {kind}) AS VARCHAR)"
        ((value,),) = cursor.execute(sql).fetchall()
        return None if value is None else f"CAST({quote.text(value)} AS {kind})"

    def _drop_column(
        self, _cursor: Cursor, _statement: Statement, target: Target, action: DropColumn
    ) -> pa.Schema | None:
        schema = declarations.read(target.schema)
        if action.if_exists and action.name.lower() not in {name.lower() for name in schema.names}:
            return None
        left = declarations.without(schema, action.name)
        if not left.names:
            raise InvalidArgumentError("a table keeps one column at least: DROP TABLE")
        declared = declarations.constraints(schema)
        # A check of this column alone goes with it, as in DuckDB.
        kept = [item for item in declared if item.kind != CHECK or _folded(item) != {action.name.lower()}]
        users = [item for item in kept if action.name.lower() in _folded(item)]
        if users:
            raise InvalidArgumentError(
                f"column {action.name!r} has a part in constraint {users[0].name}: drop that first"
            )
        return declarations.with_constraints(left, kept) if len(kept) < len(declared) else left

    def _rename_column(
        self, cursor: Cursor, _statement: Statement, target: Target, action: RenameColumn
    ) -> pa.Schema:
        schema = declarations.read(target.schema)
        changed = declarations.renamed(schema, action.name, action.new_name)
        declared = declarations.constraints(changed)
        if not any(item.kind == CHECK and action.new_name in item.columns for item in declared):
            return changed
        columns = ", ".join(column_definitions(cursor, schema, is_checked=False))
        checks = [
            replace(item, expression=self._columns.renamed(columns, item, action))
            if item.kind == CHECK and action.new_name in item.columns
            else item
            for item in declared
        ]
        return declarations.with_constraints(changed, checks)

    def _set_default(
        self, cursor: Cursor, _statement: Statement, target: Target, action: SetDefault
    ) -> pa.Schema:
        schema = declarations.read(target.schema)
        at = declarations.position(schema, action.name)
        expression = action.expression
        if expression is not None:
            kind = sql_types(cursor, schema)[1][at]
            text = f"{quote.identifier(schema.field(at).name)} {kind} DEFAULT ({expression})"
            expression = self._columns.definition(cursor, text, target.name).columns[0].default
        return schema.set(at, declarations.with_text(schema.field(at), DEFAULT, expression))

    def _set_not_null(
        self, cursor: Cursor, _statement: Statement, target: Target, action: SetNotNull
    ) -> pa.Schema:
        schema = declarations.read(target.schema)
        at = declarations.position(schema, action.name)
        field = schema.field(at)
        if action.is_refused and self._has(cursor, target, f"{quote.identifier(field.name)} IS NULL"):
            raise InvalidArgumentError(
                f"NOT NULL constraint failed: {target.name}.{field.name}: a row holds NULL"
            )
        if not action.is_refused:
            for item in declarations.constraints(schema):
                if item.kind == PRIMARY_KEY and field.name in item.columns:
                    raise InvalidArgumentError(
                        f"column {field.name!r} is in the primary key, which is never NULL"
                    )
        return schema.set(at, field.with_nullable(not action.is_refused))

    def _add_constraint(
        self, cursor: Cursor, statement: Statement, target: Target, action: AddConstraint
    ) -> pa.Schema:
        schema = declarations.read(target.schema)
        parts = [*column_definitions(cursor, schema), action.definition]
        full = self._columns.schema(cursor, statement, ", ".join(parts), (target.namespace, target.name))
        known = declarations.constraints(schema)
        new = declarations.constraints(full)
        if len(new) != 1 or full.names != schema.names:
            raise InvalidArgumentError("one constraint at a time")
        added = _checked(new[0], known, is_named=Reader(action.definition).take("CONSTRAINT"))
        self._check_rows(cursor, target, added)
        if added.kind == PRIMARY_KEY:
            for name in added.columns:
                at = declarations.position(schema, name)
                schema = schema.set(at, schema.field(at).with_nullable(False))
        return declarations.with_constraints(schema, [*known, added])

    def _check_rows(self, cursor: Cursor, target: Target, new: Constraint) -> None:
        """Refuse a constraint that rows do not meet."""
        if new.kind == CHECK and self._has(cursor, target, f"NOT ({new.expression})"):
            raise InvalidArgumentError(f"CHECK constraint failed: a row does not meet {new.expression}")
        if new.kind not in (PRIMARY_KEY, declarations.UNIQUE) or not target.objects:
            return
        names = [quote.identifier(name) for name in new.columns]
        holds_null = " OR ".join(f"{name} IS NULL" for name in names)
        if new.kind == PRIMARY_KEY and self._has(cursor, target, holds_null):
            raise InvalidArgumentError("NOT NULL constraint failed: a row holds NULL in the primary key")
        shown = ", ".join(f"{name}::VARCHAR" for name in names)
        found = cursor.execute(
            f"SELECT {shown} FROM ({self._rows(cursor, target)}) AS t "  # noqa: S608 - quoted
            f"WHERE NOT ({holds_null}) GROUP BY {', '.join(names)} HAVING count(*) > 1 LIMIT 1"
        ).fetchall()
        if found:
            raise duplicate_key(new, found[0])

    def _drop_constraint(
        self, _cursor: Cursor, _statement: Statement, target: Target, action: DropConstraint
    ) -> pa.Schema | None:
        schema = declarations.read(target.schema)
        known = declarations.constraints(schema)
        kept = [item for item in known if item.name.lower() != action.name.lower()]
        if len(kept) < len(known):
            return declarations.with_constraints(schema, kept)
        if action.if_exists:
            return None
        names = ", ".join(item.name for item in known) or "none"
        raise NotFoundError(f"no constraint {action.name!r}; the constraints are: {names}")

    def _set_sort_key(
        self, _cursor: Cursor, _statement: Statement, target: Target, action: SetSortKey
    ) -> pa.Schema:
        schema = declarations.read(target.schema)
        names = [schema.names[declarations.position(schema, name)] for name in action.columns]
        return declarations.with_sort_key(schema, names)

    def _set_type(self, cursor: Cursor, target: Target, action: SetType) -> Done:
        """Change a column's type: in the schema alone where all values fit, else by writing all rows anew."""
        schema = declarations.read(target.schema)
        at = declarations.position(schema, action.name)
        field, name = schema.field(at), quote.identifier(schema.field(at).name)
        definition = self._columns.definition(cursor, f"{name} {action.kind}", target.name)
        if len(definition.columns) != 1 or definition.constraints or definition.expressions:
            raise InvalidArgumentError(f"expected a type, found {action.kind!r}")
        kind = definition.columns[0].kind
        stored = self._columns.fields(cursor, [definition.columns[0]])[0]
        changed = schema.set(at, field.with_type(stored.type))
        if action.using is None and (not target.objects or column_types.widens(field.type, stored.type)):
            return Done(changes=(_altered(target, changed),))
        if action.using is not None:
            self._columns.check(cursor, action.using)
        value = f"CAST(({action.using or name}) AS {kind}) AS {name}"
        return self._rewritten(cursor, target, changed, f"* REPLACE ({value})")

    def _rewritten(self, cursor: Cursor, target: Target, schema: pa.Schema, chosen: str) -> Done:
        """Write all rows anew, under the constraints of a schema."""
        path = quote.path(hidden_path(self._sessions.new_relation(target.name)))
        objects = DatasetObjects(self._stores, target.room)
        cursor.execute(f"CREATE TABLE {path}({definitions(cursor, schema)})")
        try:
            cursor.execute(f"INSERT INTO {path} SELECT {chosen} FROM ({self._rows(cursor, target)}) AS t")  # noqa: S608
            place = target.bucket, target.dataset_id
            written = encoded(objects.write(cursor, (f"FROM {path}", None, schema), place, schema))
        except BaseException:
            objects.discard()
            raise
        finally:
            cursor.execute(f"DROP TABLE {path}")
        change = _change(target, "replace", schema=schema.serialize().to_pybytes(), objects=written)
        return Done(changes=(change,), discard=objects.discard)


_ACTIONS: dict[type, Callable[[DatasetAlterations, Cursor, Statement, Target, Any], pa.Schema | None]] = {
    AddColumn: DatasetAlterations._add_column,
    DropColumn: DatasetAlterations._drop_column,
    RenameColumn: DatasetAlterations._rename_column,
    SetDefault: DatasetAlterations._set_default,
    SetNotNull: DatasetAlterations._set_not_null,
    AddConstraint: DatasetAlterations._add_constraint,
    DropConstraint: DatasetAlterations._drop_constraint,
    SetSortKey: DatasetAlterations._set_sort_key,
}


def _checked(new: Constraint, known: tuple[Constraint, ...], *, is_named: bool) -> Constraint:
    if not is_named:
        new = replace(new, name=unused(new.name, known))
    if new.kind == PRIMARY_KEY and any(item.kind == PRIMARY_KEY for item in known):
        raise InvalidArgumentError("the table has a primary key already")
    if any(item.name.lower() == new.name.lower() for item in known):
        raise AlreadyExistsError(f"constraint {new.name!r} exists already: give it another name")
    return new


def _folded(constraint: Constraint) -> set[str]:
    return {name.lower() for name in constraint.columns}


def _altered(target: Target, schema: pa.Schema) -> StatementChange:
    return _change(target, "alter", schema=schema.serialize().to_pybytes())


def _change(target: Target, mode: str, **parts: Any) -> StatementChange:
    place = target.namespace, target.name, target.bucket, target.dataset_id
    return StatementChange(mode, target.kind, *place, base_version=target.version, **parts)
