"""Which kind of statement a text holds, of those that are no queries.

DuckDB says the kind and that it is one statement; the words of its head are read here. Whatever of it
holds expressions or names goes through the parse of queries before it runs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import duckdb

from flight_server.domain.dataset import CATALOG
from flight_server.domain.session import Verb
from flight_server.engine.alterations import Action, read_action
from flight_server.engine.shows import pragma_query
from flight_server.engine.tokens import Reader
from flight_server.errors import InvalidArgumentError, UnimplementedError


@dataclass(frozen=True, slots=True)
class SetVariable:
    """Give a variable of the session the value of an expression; None takes it away."""

    name: str
    expression: str | None


@dataclass(frozen=True, slots=True)
class CreateTable:
    """Create a table from a query, or from definitions of columns (the text between the brackets)."""

    path: tuple[str, ...]
    query: str | None
    columns: str | None
    is_temporary: bool
    replaces: bool
    if_not_exists: bool
    with_data: bool = True


@dataclass(frozen=True, slots=True)
class CreateView:
    """Create a view of a query; `columns` are the names given to its columns, if any."""

    path: tuple[str, ...]
    query: str
    columns: str | None
    is_temporary: bool
    replaces: bool
    if_not_exists: bool


@dataclass(frozen=True, slots=True)
class CreateSchema:
    """Create a schema."""

    path: tuple[str, ...]
    if_not_exists: bool


@dataclass(frozen=True, slots=True)
class Drop:
    """Drop a table, a view or a schema (`what`); with `cascade` what a schema holds too."""

    what: str
    path: tuple[str, ...]
    if_exists: bool
    cascade: bool


@dataclass(frozen=True, slots=True)
class Alter:
    """Change a table or a view (`what`)."""

    what: str
    path: tuple[str, ...]
    if_exists: bool
    action: Action


@dataclass(frozen=True, slots=True)
class Comment:
    """Comment on a table, a view or a column (`what`), whose path ends in it; None takes the comment away."""

    what: str
    path: tuple[str, ...]
    text: str | None


@dataclass(frozen=True, slots=True)
class Write:
    """Insert, update, delete, truncate or merge."""

    sql: str


@dataclass(frozen=True, slots=True)
class Prepare:
    """Give a statement a name in the session."""

    name: str
    sql: str


@dataclass(frozen=True, slots=True)
class Execute:
    """Run a statement by its name; `arguments` is the text between the brackets."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Deallocate:
    """Forget a prepared statement; None stands for all of them."""

    name: str | None


@dataclass(frozen=True, slots=True)
class Explain:
    """Show how a query runs; `prefix` is all that stands before the query."""

    prefix: str
    query: str


@dataclass(frozen=True, slots=True)
class Pivot:
    """A query with PIVOTs whose columns depend on the rows."""

    sql: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A SHOW or PRAGMA that is another name of a query."""

    query: str


Kind: TypeAlias = (
    Verb
    | SetVariable
    | CreateTable
    | CreateView
    | CreateSchema
    | Drop
    | Alter
    | Comment
    | Write
    | Prepare
    | Execute
    | Deallocate
    | Explain
    | Pivot
    | Shown
)


def kind_of(cursor: duckdb.DuckDBPyConnection, sql: str) -> Kind:
    """Return what one statement that is no query is. Raises InvalidArgumentError, UnimplementedError."""
    try:
        found = [statement.type.name for statement in cursor.extract_statements(sql)]
    except duckdb.Error as error:
        message = str(error).split("\n", 1)[0].partition(" Error: ")[2]
        if message.startswith(_UNREAD_ALTERATION) and ";" not in (token.text for token in Reader(sql).tokens):
            return _alter(Reader(sql))
        raise InvalidArgumentError(message or "the statement cannot be read") from error
    except ValueError:  # a kind that DuckDB's Python module has no name for, such as UPDATE EXTENSIONS
        found = [""]
    if len(found) != 1:
        raise InvalidArgumentError(
            f"one statement at a time: this text holds {len(found)}" if found else "the statement is empty"
        )
    reader = Reader(sql)
    if found[0] not in _KINDS:
        raise UnimplementedError(f"{reader.word} statements are not served{_ADVICE.get(reader.word, '')}")
    return _KINDS[found[0]](reader)


_UNREAD_ALTERATION = "No support for that ALTER TABLE option"
"""What DuckDB says of an action that it reads and does not know, such as DROP CONSTRAINT."""

_ADVICE = {"COPY": ": write with a bulk ingest (adbc_ingest, or DoPut with a path), read with a query"}


def _transaction(reader: Reader) -> Verb:
    verbs = {"BEGIN": "begin", "START": "begin", "COMMIT": "commit", "END": "commit"}
    return Verb(verbs.get(reader.word, "rollback"))


def _set(reader: Reader) -> Kind:
    if reader.take("USE"):
        return Verb("set", "schema", paths=(_path(reader),))
    is_reset = reader.take_any("SET", "RESET", "PRAGMA") == "RESET"
    if reader.take("VARIABLE"):
        return _variable(reader)
    if reader.take_any("GLOBAL"):
        raise InvalidArgumentError("settings are the session's own here: leave out GLOBAL")
    reader.take_any("SESSION", "LOCAL")
    name = "timezone" if reader.take("TIME", "ZONE") else reader.name()[0].lower()
    if is_reset:
        return Verb("reset", "schema" if name in _SCHEMA_OPTIONS else name)
    _ = reader.take("=") or reader.take("TO")
    return (
        Verb("set", "schema", paths=tuple(_schemas(reader)))
        if name in _SCHEMA_OPTIONS
        else _option(name, reader)
    )


def _variable(reader: Reader) -> SetVariable:
    name = reader.name()[0]
    is_set = reader.take("=") or reader.take("TO")
    return SetVariable(name, reader.rest() if is_set else None)


_SCHEMA_OPTIONS = frozenset({"schema", "search_path"})


def _option(name: str, reader: Reader) -> Verb:
    """Read the value of an option: a string, a word or a number; DEFAULT takes it back."""
    if len(reader.tokens) - reader.at == 1 and reader.token is not None:
        value = reader.token.value
        return Verb("reset", name) if reader.word == "DEFAULT" else Verb("set", name, value)
    value = reader.rest()
    if not value:
        raise reader.unexpected("a value")
    return Verb("set", name, value)


def _schemas(reader: Reader) -> Iterator[tuple[str, ...]]:
    """Read the schemas of `SET schema = 'a'` and `SET search_path = 'a,b'`: names in a string, or bare."""
    if reader.token is None or not reader.token.text.startswith("'"):
        yield _path(reader)
        return
    for written in reader.token.value.split(","):
        name = written.strip()
        # A bucket's name may hold dots and a colon: only the catalog before it is a part of its own.
        catalog, dot, rest = name.partition(".")
        path = (catalog, rest) if dot and catalog.lower() == CATALOG else (name,)
        yield tuple(part.strip('"') for part in path)


def _path(reader: Reader) -> tuple[str, ...]:
    path = reader.name()
    reader.end()
    return path


def _create(reader: Reader) -> Kind:
    reader.take("CREATE")
    replaces = reader.take("OR", "REPLACE")
    is_temporary = bool(reader.take_any("TEMP", "TEMPORARY"))
    what = reader.take_any("TABLE", "VIEW", "SCHEMA")
    if not what:
        raise UnimplementedError(
            f"CREATE {reader.word} is not served: tables, views and schemas can be created"
        )
    if_not_exists = reader.take("IF", "NOT", "EXISTS")
    path = reader.name()
    if what == "SCHEMA":
        reader.end()
        return CreateSchema(path, if_not_exists)
    columns = reader.brackets() if reader.token and reader.token.text == "(" else None
    reader.take("ON", "COMMIT", "PRESERVE", "ROWS")
    query = None
    with_data = True
    if reader.take("AS"):
        query, with_data = _with_data(reader)
    reader.end()
    if what == "VIEW":
        if query is None:
            raise reader.unexpected("AS and a query")
        return CreateView(path, query, columns, is_temporary, replaces, if_not_exists)
    if query is None and columns is None:
        raise reader.unexpected("the columns in brackets, or AS and a query")
    return CreateTable(path, query, columns, is_temporary, replaces, if_not_exists, with_data)


def _with_data(reader: Reader) -> tuple[str, bool]:
    """Read a query behind which may stand WITH DATA or WITH NO DATA."""
    last = [token.word for token in reader.tokens[-3:]]
    without = last == ["WITH", "NO", "DATA"]
    end = len(reader.tokens) - (3 if without else 2 if last[1:] == ["WITH", "DATA"] else 0)
    if reader.token is None or end <= reader.at:
        raise reader.unexpected("a query")
    query = reader.text(reader.token.start, reader.tokens[end - 1].end)
    reader.at = len(reader.tokens)
    return query, not without


def _drop(reader: Reader) -> Kind:
    if reader.take("DEALLOCATE"):
        reader.take("PREPARE")
        return Deallocate(None if reader.take("ALL") else reader.name()[0])
    reader.take("DROP")
    what = reader.take_any("TABLE", "VIEW", "SCHEMA")
    if not what:
        raise UnimplementedError(
            f"DROP {reader.word} is not served: tables, views and schemas can be dropped"
        )
    if_exists = reader.take("IF", "EXISTS")
    path = reader.name()
    cascade = reader.take_any("CASCADE", "RESTRICT") == "CASCADE"
    reader.end()
    return Drop(what, path, if_exists, cascade)


def _alter(reader: Reader) -> Kind:
    if reader.word == "COMMENT":
        return _comment(reader)
    reader.take("ALTER")
    what = reader.take_any("TABLE", "VIEW")
    if not what:
        raise UnimplementedError(f"ALTER {reader.word} is not served: tables and views can be altered")
    if_exists = reader.take("IF", "EXISTS")
    path = reader.name()
    return Alter(what, path, if_exists, read_action(reader))


def _comment(reader: Reader) -> Comment:
    reader.take("COMMENT", "ON")
    what = reader.take_any("TABLE", "VIEW", "COLUMN")
    if not what:
        raise UnimplementedError(
            f"comments on {reader.word} are not served: tables, views and columns take them"
        )
    path = reader.name()
    if not reader.take("IS"):
        raise reader.unexpected("IS")
    if reader.take("NULL"):
        return Comment(what, path, None)
    if reader.token is None or not reader.token.text.startswith("'"):
        raise reader.unexpected("a text in single quotes, or NULL")
    text = reader.token.value
    reader.at += 1
    reader.end()
    return Comment(what, path, text)


def _prepare(reader: Reader) -> Prepare:
    reader.take("PREPARE")
    name = reader.name()[0]
    if not reader.take("AS"):
        raise reader.unexpected("AS and a statement")
    return Prepare(name, reader.rest())


def _execute(reader: Reader) -> Execute:
    reader.take("EXECUTE")
    name = reader.name()[0]
    arguments = reader.brackets() if reader.token else ""
    reader.end()
    return Execute(name, arguments)


def _explain(reader: Reader) -> Explain:
    reader.take("EXPLAIN")
    reader.take_any("ANALYZE", "ANALYSE")
    if reader.token and reader.token.text == "(" and not _is_query_in_brackets(reader):
        reader.brackets()
    start = reader.token.start if reader.token else 0
    return Explain(reader.text(0, start), reader.rest())


def _is_query_in_brackets(reader: Reader) -> bool:
    words = [token.word for token in reader.tokens[reader.at :] if token.text != "("]
    return bool(words) and words[0] in _HEADS_OF_QUERIES


_HEADS_OF_QUERIES = frozenset(
    {"SELECT", "FROM", "WITH", "VALUES", "TABLE", "PIVOT", "UNPIVOT", "DESCRIBE", "SHOW", "SUMMARIZE"}
)


def _whole(kind: Callable[[str], Kind]) -> Callable[[Reader], Kind]:
    return lambda reader: kind(reader.rest())


_KINDS: dict[str, Callable[[Reader], Kind]] = {
    "TRANSACTION": _transaction,
    "SET": _set,
    "CREATE": _create,
    "DROP": _drop,
    "INSERT": _whole(Write),
    "UPDATE": _whole(Write),
    "DELETE": _whole(Write),
    "MERGE_INTO": _whole(Write),
    "PREPARE": _prepare,
    "EXECUTE": _execute,
    "EXPLAIN": _explain,
    "ALTER": _alter,
    # Several statements of DuckDB's own: it makes them of a PIVOT, and of a new column that is NOT NULL.
    "MULTI": lambda reader: _alter(reader) if reader.word == "ALTER" else Pivot(reader.rest()),
    "PRAGMA": lambda reader: Shown(pragma_query(reader)),
}
"""DuckDB's name of a statement's type → what reads it."""
