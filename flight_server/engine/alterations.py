"""What ALTER TABLE may do, read from its words."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from flight_server.engine import quote
from flight_server.engine.tokens import Reader
from flight_server.errors import UnimplementedError


@dataclass(frozen=True, slots=True)
class AddColumn:
    """Add a column; `definition` is its text, name first."""

    definition: str
    name: str
    if_not_exists: bool


@dataclass(frozen=True, slots=True)
class DropColumn:
    """Drop a column."""

    name: str
    if_exists: bool


@dataclass(frozen=True, slots=True)
class RenameColumn:
    """Give a column another name."""

    name: str
    new_name: str


@dataclass(frozen=True, slots=True)
class RenameTable:
    """Give the table another name in its schema."""

    new_name: str


@dataclass(frozen=True, slots=True)
class SetType:
    """Give a column another type; `using` is the expression of its values, None for a cast."""

    name: str
    kind: str
    using: str | None


@dataclass(frozen=True, slots=True)
class SetDefault:
    """Give a column a default for rows to come; None takes it away."""

    name: str
    expression: str | None


@dataclass(frozen=True, slots=True)
class SetNotNull:
    """Refuse or allow NULL in a column."""

    name: str
    is_refused: bool


@dataclass(frozen=True, slots=True)
class AddConstraint:
    """Add a constraint of the table; `definition` is its text."""

    definition: str


@dataclass(frozen=True, slots=True)
class DropConstraint:
    """Drop a constraint by its name."""

    name: str
    if_exists: bool


@dataclass(frozen=True, slots=True)
class SetSortKey:
    """Declare the columns by which `compact` sorts; none takes the declaration back."""

    columns: tuple[str, ...]


Action: TypeAlias = (
    AddColumn
    | DropColumn
    | RenameColumn
    | RenameTable
    | SetType
    | SetDefault
    | SetNotNull
    | AddConstraint
    | DropConstraint
    | SetSortKey
)


def read_action(reader: Reader) -> Action:
    """Read what stands behind the name in ALTER TABLE. Raises InvalidArgumentError."""
    word = reader.take_any(*_ACTIONS)
    if not word:
        raise reader.unexpected(", ".join(_ACTIONS))
    action = _ACTIONS[word](reader)
    reader.end()
    return action


def _column(reader: Reader) -> str:
    """Step over the name of a column. Raises UnimplementedError for a field of one."""
    path = reader.name()
    if len(path) > 1:
        column = quote.identifier(path[0])
        raise UnimplementedError(
            f"{'.'.join(path)} is a field of a column, which cannot be altered alone: "
            f"ALTER COLUMN {column} SET DATA TYPE STRUCT(…) USING an expression"
        )
    return path[0]


_CONSTRAINT_WORDS = frozenset({"CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"})


def _add(reader: Reader) -> Action:
    if reader.word in _CONSTRAINT_WORDS:
        return AddConstraint(reader.rest())
    reader.take("COLUMN")
    if_not_exists = reader.take("IF", "NOT", "EXISTS")
    start = reader.at
    name = _column(reader)
    reader.at = start
    return AddColumn(reader.rest(), name, if_not_exists)


def _drop(reader: Reader) -> Action:
    if reader.take("CONSTRAINT"):
        if_exists = reader.take("IF", "EXISTS")
        return DropConstraint(reader.name()[-1], if_exists)
    reader.take("COLUMN")
    if_exists = reader.take("IF", "EXISTS")
    name = _column(reader)
    reader.take_any("CASCADE", "RESTRICT")
    return DropColumn(name, if_exists)


def _rename(reader: Reader) -> Action:
    if reader.take("TO"):
        return RenameTable(reader.name()[-1])
    reader.take("COLUMN")
    name = _column(reader)
    if not reader.take("TO"):
        raise reader.unexpected("TO")
    return RenameColumn(name, _column(reader))


def _alter(reader: Reader) -> Action:
    reader.take("COLUMN")
    name = _column(reader)
    if reader.take("SET", "DEFAULT"):
        return SetDefault(name, reader.rest())
    if reader.take("DROP", "DEFAULT"):
        return SetDefault(name, None)
    for words, is_refused in ((("SET", "NOT", "NULL"), True), (("DROP", "NOT", "NULL"), False)):
        if reader.take(*words):
            return SetNotNull(name, is_refused)
    return _type(reader, name)


def _type(reader: Reader, name: str) -> SetType:
    _ = reader.take("SET", "DATA", "TYPE") or reader.take("SET", "TYPE") or reader.take("TYPE")
    if reader.token is None:
        raise reader.unexpected("a type")
    start = end = reader.token.start
    while reader.token and not (reader.word == "USING" and reader.token.depth == 0):
        end = reader.token.end
        reader.at += 1
    kind = reader.text(start, end)
    return SetType(name, kind, reader.rest() if reader.take("USING") else None)


def _set(reader: Reader) -> SetSortKey:
    if not reader.take("SORTED", "BY"):
        raise reader.unexpected("SORTED BY (columns)")
    inner = Reader(reader.brackets())
    names = [_column(inner)]
    while inner.take(","):
        names.append(_column(inner))
    inner.end()
    return SetSortKey(tuple(names))


def _reset(reader: Reader) -> SetSortKey:
    if not reader.take("SORTED", "BY"):
        raise reader.unexpected("SORTED BY")
    return SetSortKey(())


_ACTIONS: dict[str, Callable[[Reader], Action]] = {
    "ADD": _add,
    "DROP": _drop,
    "RENAME": _rename,
    "ALTER": _alter,
    "SET": _set,
    "RESET": _reset,
}
