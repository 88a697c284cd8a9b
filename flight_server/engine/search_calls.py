"""Calls of the search functions as a statement writes them: their arguments, and what stands for them.

Arguments are constants or parameters. A parameter stays in the text, in a condition that always holds, so
that it keeps its number, is declared with the type that it is for, and takes its value the ordinary way.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from flight_server.domain.bucket import PROFILE_PREFIX
from flight_server.domain.dataset import CATALOG
from flight_server.engine import quote
from flight_server.engine.tokens import Reader, tokens
from flight_server.engine.walk import Node, SearchReference
from flight_server.errors import InvalidArgumentError
from flight_server.frames.requests import TableName

VECTOR, TEXT, HYBRID = "vector_search", "text_search", "hybrid_search"

_NUMBERS = dict.fromkeys(("k", "ef", "nprobes", "refine"), "BIGINT")
_OF_EVERY = {"k": "BIGINT", "filter": "VARCHAR", "column": "VARCHAR", "profile": "VARCHAR"}
_OF_VECTORS = _OF_EVERY | _NUMBERS | {"metric": "VARCHAR", "exact": "BOOLEAN"}
_TYPES: Mapping[str, Mapping[str, str]] = {
    VECTOR: _OF_VECTORS | {"query": "FLOAT[]", "queries": "VARCHAR"},
    TEXT: _OF_EVERY | {"query": "VARCHAR"},
    HYBRID: _OF_VECTORS | {"query": "VARCHAR", "text_column": "VARCHAR"},
}
"""Function → its arguments with their types in SQL; `query` is the second one, without a name."""

_ONLY_CONSTANT = frozenset({"queries", "profile", "column", "text_column"})
"""What decides which columns a search returns, or of which dataset: it cannot wait for a value."""

_INTEGER = "INTEGER"
_NUMERIC = frozenset({_INTEGER, "NUMERIC", "FLOAT"})
_LISTS = frozenset({"list_value", "array_value"})
_TEXTS = frozenset({"varchar", "text", "string", "char", "bpchar"})
"""Names of the type of texts in a cast."""

_PART = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^".]+))\s*(\.|$)')
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the statement as the value of an argument; `name` is its number or name."""

    name: str


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant that names a dataset, and where it stands: byte positions, None where unknown."""

    path: tuple[str, ...]
    start: int | None
    end: int


@dataclass(frozen=True, slots=True)
class SearchCall:
    """A call: `values` of its arguments by name, each a constant of Python's or a Parameter.

    `dataset` is searched; the rows of `queries`, if there are, are what for. `markers` are the parameters
    as they are written, with the types that they are for.
    """

    function: str
    dataset: Literal
    queries: Literal | None
    values: Mapping[str, object]
    markers: tuple[tuple[str, str], ...]

    def names(self, profile: str | None) -> tuple[TableName, ...]:
        """Return the datasets that it reads, for a caller with a current profile."""
        own = self.values.get("profile", profile)
        found = [self.dataset, self.queries] if self.queries is not None else [self.dataset]
        return tuple(TableName(_placed(literal.path, own, self.values.get("profile"))) for literal in found)

    def relation(self, over: Sequence[str]) -> str:
        """Return the name of the hidden relation of its rows, over these relations and columns."""
        said = repr((self.function, sorted(self.values.items(), key=lambda item: item[0]), over))
        return f"search.{sha256(said.encode()).hexdigest()[:32]}"

    def query(self, path: Sequence[str]) -> str:
        """Return the query that reads its rows from a path, with its parameters in their order."""
        conditions = [f"[TRY_CAST({marker} AS {kind})] IS NOT NULL" for marker, kind in self.markers]
        return f"FROM {quote.path(path)} WHERE {' AND '.join(conditions)}"


def _placed(path: tuple[str, ...], profile: object, asked: object) -> tuple[str, ...]:
    """Return where a dataset is looked for: a bare name in the profile, where there is one."""
    if len(path) == 1:
        return path if profile is None else (f"{PROFILE_PREFIX}{profile}", *path)
    if asked is not None and path[-2].lower() != f"{PROFILE_PREFIX}{asked}":
        raise InvalidArgumentError(
            f"{'.'.join(path)!r} does not lie in profile {asked!r}: give the name alone, or no profile"
        )
    return path


def read_call(sql: bytes, reference: SearchReference) -> SearchCall:
    """Read a call. Raises InvalidArgumentError for what a search does not take."""
    arguments = reference.node["function"]["arguments"]
    types = _TYPES[reference.function]
    _check_place(reference)
    values: dict[str, object] = {}
    literals: dict[str, Literal] = {}
    markers: list[tuple[str, str]] = []
    for at, argument in enumerate(arguments):
        name = _argument_name(reference.function, at, argument["name"].lower(), values, types)
        expression = _bare(argument["expression"])
        if name in ("dataset", "queries"):
            literals[name] = _dataset(reference.function, name, expression)
            values[name] = literals[name].path
        elif expression["type"] == "VALUE_PARAMETER":
            values[name] = Parameter(expression["identifier"])
            kind = _parameter_type(name, types, argument["expression"])
            markers.append((_marker(sql, expression), kind))
        else:
            values[name] = _constant(name, expression)
    _check_complete(reference.function, values)
    return SearchCall(
        reference.function, literals["dataset"], literals.get("queries"), values, tuple(markers)
    )


def _check_place(reference: SearchReference) -> None:
    function, node = reference.node["function"], reference.node
    if function.get("schema") or function.get("catalog"):
        raise InvalidArgumentError(f"call {reference.function}() without a schema before its name")
    if node.get("with_ordinality") not in (None, "WITHOUT_ORDINALITY"):
        raise InvalidArgumentError("a search takes no WITH ORDINALITY: order by its distance or score")


def _argument_name(
    function: str, at: int, name: str, values: Mapping[str, object], types: Mapping[str, str]
) -> str:
    """Return what an argument is. Raises InvalidArgumentError for one that is unknown or given twice."""
    if not name:
        positional = ("dataset", "query")
        if at >= len(positional):
            raise InvalidArgumentError(
                f"{function}() takes a dataset and a query; all else by name, as in k => 10: "
                f"{', '.join(sorted(types.keys() - {'query'}))}"
            )
        name = positional[at]
    elif name not in types or name == "query":
        raise InvalidArgumentError(
            f"{function}() has no argument {name!r}; it has {', '.join(sorted(types.keys() - {'query'}))}"
        )
    if name in values:
        raise InvalidArgumentError(f"{function}() is given {name} twice")
    return name


def _check_complete(function: str, values: Mapping[str, object]) -> None:
    if "dataset" not in values:
        raise InvalidArgumentError(f"{function}() takes the name of a dataset first, as in 'docs'")
    wanted = [name for name in ("query", "queries") if name in values]
    if len(wanted) != 1:
        raise InvalidArgumentError(
            f"{function}() takes a query after the dataset"
            + (", or queries => a dataset of vectors; not both" if function == VECTOR else "")
        )


def _bare(node: Node) -> Node:
    """Return what a cast is of: a vector may be written with its type."""
    while node["class"] == "CAST":
        node = node["child"]
    return node


def _parameter_type(name: str, types: Mapping[str, str], written: Node) -> str:
    """Return the type that a parameter is declared with: drivers bind nothing else to it."""
    if name in _ONLY_CONSTANT:
        raise InvalidArgumentError(f"{name} decides what a search returns: write it into the statement")
    is_text = written["class"] == "CAST" and str(written["type_expr"].get("type_name")).lower() in _TEXTS
    return "VARCHAR" if name == "query" and is_text else types[name]


def _marker(sql: bytes, node: Node) -> str:
    start = node["query_location"]
    return sql[start : start + node["query_location_length"]].decode()


def _constant(name: str, node: Node) -> object:
    """Return the value of a constant: a number, a text, a list of numbers, true, false or None."""
    value = _value(node)
    if value is _MISSING:
        raise InvalidArgumentError(
            f"a search takes constants and parameters, and its {name} is neither; "
            "to search for the rows of a table use queries => 'the table'"
        )
    return value


def _value(node: Node) -> object:
    node = _bare(node)
    if node["type"] == "VALUE_CONSTANT":
        return _plain(node["literal"])
    if node.get("function_name") == "-" and len(node["arguments"]) == 1:
        value = _value(node["arguments"][0]["expression"])
        return -value if isinstance(value, int | float) else _MISSING
    if node.get("function_name") in _LISTS:
        values = tuple(_value(argument["expression"]) for argument in node["arguments"])
        return _MISSING if _MISSING in values else values
    return _MISSING


def _plain(literal: Mapping[str, str]) -> object:
    kind, text = literal["kind"], literal.get("text", "").replace("_", "")
    if kind in _NUMERIC:
        try:
            return int(text) if kind == _INTEGER else float(text)
        except ValueError as error:
            raise InvalidArgumentError(f"{text[:80]!r} is no number that a search takes") from error
    return {"STRING": literal.get("text"), "BOOLEAN": text == "true"}.get(kind)


def _dataset(function: str, name: str, node: Node) -> Literal:
    """Return the dataset that a constant names. Raises InvalidArgumentError."""
    literal = node.get("literal", {})
    if literal.get("kind") != "STRING":
        raise InvalidArgumentError(
            f"{function}() takes the name of a dataset as a text, as in 'docs' or 'testing.docs', "
            f"{'first' if name == 'dataset' else 'as queries'}; it cannot be a parameter or an expression"
        )
    start, length = node["query_location"], node["query_location_length"]
    return Literal(tuple(_path(literal["text"])), start if length else None, start + length)


def _path(text: str) -> Iterator[str]:
    """Yield the parts of a dataset's name; only those with dots or quotes in them need quotes."""
    at = 0
    while found := _PART.match(text, at):
        quoted, plain, dot = found.groups()
        yield quoted.replace('""', '"') if quoted is not None else plain.strip()
        at = found.end()
        if not dot:
            return
    raise InvalidArgumentError(f"{text[:80]!r} is not the name of a dataset, such as docs or testing.docs")


def with_quoted_names(sql: str) -> str:
    """Return a text in which the argument `column`, a keyword, is written as DuckDB reads it."""
    folded = sql.lower()
    if "_search" not in folded or "column" not in folded:
        return sql
    data, at, out = sql.encode(), 0, []
    for token in tokens(sql):
        if token.word == "COLUMN" and data[token.end :].lstrip().startswith((b"=>", b":=")):
            out += [data[at : token.start], b'"column"']
            at = token.end
    return b"".join([*out, data[at:]]).decode()


def call_end(sql: bytes, reference: SearchReference) -> int | None:
    """Return where the text of a call ends, None where it is not known."""
    reader = Reader(sql.decode())
    starts = [at for at, token in enumerate(reader.tokens) if token.start == reference.start]
    if reference.start is None or not starts:
        return None
    reader.at = starts[0] + 1
    reader.brackets()
    return reader.tokens[reader.at - 1].end


def full_names(call: SearchCall, paths: Sequence[Sequence[str]]) -> Iterator[tuple[int, int, str]]:
    """Yield the edits that put full names in the place of a call's datasets."""
    literals = [call.dataset] if call.queries is None else [call.dataset, call.queries]
    for literal, path in zip(literals, paths, strict=True):
        if literal.start is None:
            raise InvalidArgumentError("a search stands here in a way that is not served: give it an alias")
        shown = path[1:] if path[0] == CATALOG else path
        yield literal.start, literal.end, quote.text(quote.path(tuple(shown)))


@dataclass(frozen=True, slots=True)
class WrittenSearch:
    """A call in a statement: `end` is where its text ends, None where that is not known."""

    reference: SearchReference
    call: SearchCall
    end: int | None


def read_calls(sql: bytes, references: Sequence[SearchReference]) -> tuple[WrittenSearch, ...]:
    """Read the calls of a statement, in order. Raises InvalidArgumentError."""
    return tuple(
        WrittenSearch(reference, read_call(sql, reference), call_end(sql, reference))
        for reference in references
    )
