"""Filters of searches: parsed by DuckDB, checked node by node, and written anew.

Lance runs a filter inside the process without any limit, so nothing that a client wrote reaches it: what
is let through are columns, literals and the operators named here, each rendered by us. Lance's SQL is
DataFusion's, which reads some of them in another way; where it does, the filter has no text for Lance.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from flight_server.domain.recent import RecentMap
from flight_server.domain.vector import Filter
from flight_server.engine import quote
from flight_server.errors import InvalidArgumentError

MAX_FILTER_BYTES = 4096

_REMEMBERED_BYTES = 4 * 1024 * 1024

_PREFIX, _SUFFIX = "SELECT 1 WHERE (", "\n)"
_ALLOWED = "columns, literals, = <> < <= > >=, IN, BETWEEN, LIKE, IS NULL, AND, OR and NOT"

_COMPARISONS = {
    "COMPARE_EQUAL": "=",
    "COMPARE_NOTEQUAL": "<>",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_GREATERTHANOREQUALTO": ">=",
}
_PATTERNS = {"~~": "LIKE", "!~~": "NOT LIKE", "~~*": "ILIKE", "!~~*": "NOT ILIKE"}
_ONLY_DUCKDB = frozenset({"ILIKE", "NOT ILIKE"})
_LISTS = {"COMPARE_IN": "IN", "COMPARE_NOT_IN": "NOT IN"}
_TESTS = {"OPERATOR_IS_NULL": "IS NULL", "OPERATOR_IS_NOT_NULL": "IS NOT NULL"}
_WORDS = {"CONJUNCTION_AND": " AND ", "CONJUNCTION_OR": " OR "}
_MOMENTS = {"date": "DATE", "timestamp": "TIMESTAMP", "timestamp with time zone": "TIMESTAMPTZ"}
_BETWEEN = ("input", "lower", "upper")
_CLASSES: Mapping[str, Callable[[Any], bool]] = {
    "text": pa.types.is_string,
    "boolean": pa.types.is_boolean,
    "number": lambda kind: pa.types.is_integer(kind) or pa.types.is_floating(kind),
    "moment": lambda kind: pa.types.is_date(kind) or pa.types.is_timestamp(kind),
}
_WORD_LITERALS = frozenset({"BOOLEAN", "NULL_LITERAL"})
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?|[-+]?\.[0-9]+([eE][-+]?[0-9]+)?")

_Node = dict[str, Any]
_Text = tuple[str, str]
"""The same condition for DuckDB and for Lance."""


_known: RecentMap[tuple[str, bytes], Filter] = RecentMap(_REMEMBERED_BYTES)
_plain: list[_Node] = []


def read_filter(cursor: duckdb.DuckDBPyConnection, text: str, schema: pa.Schema) -> Filter:
    """Read the filter of a search over the columns of a schema. Raises InvalidArgumentError."""
    key = (text, schema.serialize().to_pybytes())
    found = _known.get(key)
    if found is None:
        found = _read(cursor, text, schema)
        _known.put(key, found, 1_000 + len(key[1]) + 10 * len(text))
    return found


def _read(cursor: duckdb.DuckDBPyConnection, text: str, schema: pa.Schema) -> Filter:
    size = len(text.encode())
    if size > MAX_FILTER_BYTES:
        raise InvalidArgumentError(f"the filter is {size} bytes long, at most {MAX_FILTER_BYTES} are read")
    plain = [item for item in schema if not pa.types.is_nested(item.type)]
    writer = _Writer(
        {item.name.lower(): item.name for item in plain}, {item.name: item.type for item in plain}
    )
    sql, lance = writer.write(_condition(cursor, text))
    return Filter(sql, "" if writer.is_only_duckdb else lance, tuple(writer.columns))


def _condition(cursor: duckdb.DuckDBPyConnection, text: str) -> _Node:
    """Return the node of a condition; all else around it must be as around any other."""
    if not text.strip():
        raise InvalidArgumentError("the filter is empty: leave it out to search all rows")
    tree = _tree(cursor, text)
    if tree["error"]:
        raise InvalidArgumentError(f"the filter cannot be read: {tree['error_message']}")
    found: list[_Node] = [statement["node"].pop("where_clause", {}) for statement in tree["statements"]]
    if [item["node"] for item in tree["statements"]] != _around(cursor):
        raise InvalidArgumentError(f"a filter is one condition of {_ALLOWED}")
    return found[0]


def _around(cursor: duckdb.DuckDBPyConnection) -> list[_Node]:
    """Return what stands around any condition."""
    if not _plain:
        (statement,) = _tree(cursor, "true")["statements"]
        del statement["node"]["where_clause"]
        _plain.append(statement["node"])
    return _plain[:1]


def _tree(cursor: duckdb.DuckDBPyConnection, text: str) -> _Node:
    rows = cursor.execute("SELECT json_serialize_sql($1)", [_PREFIX + text + _SUFFIX]).fetchall()
    try:
        tree: _Node = json.loads(rows[0][0])
    except RecursionError as error:
        raise InvalidArgumentError("the filter is nested too deeply") from error
    return tree


@dataclass(slots=True)
class _Writer:
    """Writes a condition anew; `names` are the columns that there are by folded names, `types` are theirs."""

    names: Mapping[str, str]
    types: Mapping[str, pa.DataType]
    columns: dict[str, None] = field(default_factory=dict)
    is_only_duckdb: bool = False

    def write(self, node: _Node) -> _Text:
        """Return a condition. Raises InvalidArgumentError for what is none of those allowed."""
        if node["class"] in _VALUES:
            self._compared(node, class_="boolean")
        return self._rule(node, _CONDITIONS)(self, node)

    def _value(self, node: _Node) -> _Text:
        return self._rule(node, _VALUES)(self, node)

    def _rule(self, node: _Node, rules: "Mapping[str, _Rule]") -> "_Rule":
        rule = rules.get(node["class"])
        if rule is None:
            said = str(node.get("function_name") or node["type"]).lower().replace("_", " ")
            raise InvalidArgumentError(f"a filter cannot hold {said}: it takes {_ALLOWED}")
        return rule

    def _compared(self, *nodes: _Node, class_: str | None = None) -> None:
        """Note it when values of several classes are compared: DuckDB and Lance convert them differently."""
        found = {self._class(node) for node in nodes} | {class_}
        self.is_only_duckdb |= len(found - {None}) > 1

    def _class(self, node: _Node) -> str | None:
        """Return the class of a column or literal, None for NULL and what is refused anyway."""
        if node["class"] == "COLUMN_REF":
            kind = self.types.get(self.names.get(node["column_names"][-1].lower(), ""))
            return next((name for name, holds in _CLASSES.items() if kind and holds(kind)), str(kind))
        literal = node.get("literal", {}).get("kind")
        return {"STRING": "text", "BOOLEAN": "boolean", "NULL_LITERAL": None, None: "moment"}.get(
            literal, "number"
        )

    def _column(self, node: _Node) -> _Text:
        path = node["column_names"]
        name = self.names.get(path[-1].lower()) if len(path) == 1 else None
        if name is None:
            raise InvalidArgumentError(
                f"the filter names {'.'.join(path)!r}, which is no column that a filter can compare; "
                f"there are: {', '.join(self.names.values()) or 'none'}"
            )
        self.columns[name] = None
        self.is_only_duckdb |= "`" in name
        return quote.identifier(name), f"`{name}`"

    def _literal(self, node: _Node) -> _Text:
        kind, text = node["literal"]["kind"], str(node["literal"].get("text", ""))
        if kind == "STRING":
            written = quote.text(text)
        elif _NUMBER.fullmatch(text):
            written = text
        elif kind in _WORD_LITERALS:
            written = text.upper() or "NULL"
        else:
            raise InvalidArgumentError(f"a filter cannot hold the literal {text[:80]!r}")
        return written, written

    def _moment(self, node: _Node) -> _Text:
        """DATE '…' and its like come as casts of a text."""
        name = _MOMENTS.get(str(node["type_expr"].get("type_name", "")).lower())
        literal = node["child"].get("literal", {})
        if name is None or literal.get("kind") != "STRING":
            raise InvalidArgumentError(f"a filter casts nothing but texts to {', '.join(_MOMENTS.values())}")
        self.is_only_duckdb |= name == "TIMESTAMPTZ"
        written = f"{name} {quote.text(str(literal['text']))}"
        return written, written

    def _comparison(self, node: _Node) -> _Text:
        sign = _COMPARISONS.get(node["type"])
        if sign is None:
            return self._rule({**node, "class": node["type"]}, _VALUES)(self, node)
        self._compared(node["left"], node["right"])
        return _joined(f" {sign} ", [self._value(node["left"]), self._value(node["right"])])

    def _between(self, node: _Node) -> _Text:
        self._compared(*(node[part] for part in _BETWEEN))
        parts = [self._value(node[part]) for part in _BETWEEN]
        return _each(parts, lambda text: f"({text[0]} BETWEEN {text[1]} AND {text[2]})")

    def _conjunction(self, node: _Node) -> _Text:
        return _joined(_WORDS[node["type"]], [self.write(child) for child in node["children"]])

    def _operator(self, node: _Node) -> _Text:
        kind, children = node["type"], node["children"]
        if kind == "OPERATOR_NOT":
            return _each([self.write(children[0])], lambda text: f"(NOT {text[0]})")
        if kind in _TESTS:
            return _each([self._value(children[0])], lambda text: f"({text[0]} {_TESTS[kind]})")
        if kind in _LISTS:
            self._compared(*children)
            values = [self._value(child) for child in children]
            return _each(values, lambda text: f"({text[0]} {_LISTS[kind]} ({', '.join(text[1:])}))")
        return self._rule({**node, "class": kind}, _VALUES)(self, node)

    def _pattern(self, node: _Node) -> _Text:
        word = _PATTERNS.get(node["function_name"]) if node["is_operator"] else None
        if word is None:
            return self._rule({**node, "class": node["function_name"]}, _VALUES)(self, node)
        compared = [argument["expression"] for argument in node["arguments"]]
        self._compared(*compared, class_="text")
        value, pattern = map(self._value, compared)
        self.is_only_duckdb |= word in _ONLY_DUCKDB or "\\" in pattern[0]
        return _joined(f" {word} ", [value, pattern])


_Rule = Callable[[_Writer, _Node], _Text]

_VALUES: Mapping[str, _Rule] = {
    "COLUMN_REF": _Writer._column,
    "CONSTANT": _Writer._literal,
    "CAST": _Writer._moment,
}
_CONDITIONS: Mapping[str, _Rule] = {
    "COMPARISON": _Writer._comparison,
    "BETWEEN": _Writer._between,
    "CONJUNCTION": _Writer._conjunction,
    "OPERATOR": _Writer._operator,
    "FUNCTION": _Writer._pattern,
    **_VALUES,
}


def _joined(word: str, parts: list[_Text]) -> _Text:
    return _each(parts, lambda text: f"({word.join(text)})")


def _each(parts: list[_Text], write: Callable[[list[str]], str]) -> _Text:
    return write([part[0] for part in parts]), write([part[1] for part in parts])
