"""ALTER TABLE of temporary tables: DuckDB's own, written anew from what the gate has seen."""

from collections.abc import Callable
from typing import Any

from flight_server.engine import quote
from flight_server.engine.alterations import (
    Action,
    AddColumn,
    DropColumn,
    RenameColumn,
    SetDefault,
    SetNotNull,
    SetType,
)
from flight_server.engine.scratch import Definitions
from flight_server.errors import UnimplementedError

Check = Callable[[str], None]
"""Refuses an expression that may not run."""


def alteration(action: Action, definitions: Definitions, check: Check) -> str:
    """Return the text of an action. Raises UnimplementedError, InvalidArgumentError."""
    if type(action) not in _TEXTS:
        raise UnimplementedError("temporary tables do not take this: create them with it")
    return _TEXTS[type(action)](action, definitions, check)


def _add(action: AddColumn, definitions: Definitions, check: Check) -> str:
    definition = definitions.check(action.definition)
    for expression in definition.expressions:
        check(expression)
    return f"ADD COLUMN {'IF NOT EXISTS ' if action.if_not_exists else ''}{definition.text}"


def _drop(action: DropColumn, _definitions: Definitions, _check: Check) -> str:
    return f"DROP COLUMN {'IF EXISTS ' if action.if_exists else ''}{quote.identifier(action.name)}"


def _rename(action: RenameColumn, _definitions: Definitions, _check: Check) -> str:
    return f"RENAME COLUMN {quote.identifier(action.name)} TO {quote.identifier(action.new_name)}"


def _type(action: SetType, definitions: Definitions, check: Check) -> str:
    name = quote.identifier(action.name)
    kind = definitions.check(f"{name} {action.kind}").columns[0].kind
    if action.using is None:
        return f"ALTER COLUMN {name} SET DATA TYPE {kind}"
    check(action.using)
    return f"ALTER COLUMN {name} SET DATA TYPE {kind} USING ({action.using})"


def _default(action: SetDefault, _definitions: Definitions, check: Check) -> str:
    name = quote.identifier(action.name)
    if action.expression is None:
        return f"ALTER COLUMN {name} DROP DEFAULT"
    check(action.expression)
    return f"ALTER COLUMN {name} SET DEFAULT ({action.expression})"


def _not_null(action: SetNotNull, _definitions: Definitions, _check: Check) -> str:
    return f"ALTER COLUMN {quote.identifier(action.name)} {'SET' if action.is_refused else 'DROP'} NOT NULL"


_TEXTS: dict[type, Callable[[Any, Definitions, Check], str]] = {
    AddColumn: _add,
    DropColumn: _drop,
    RenameColumn: _rename,
    SetType: _type,
    SetDefault: _default,
    SetNotNull: _not_null,
}
