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

from flight_server.domain.vector import Filter
from flight_server.engine import quote
from flight_server.errors import InvalidArgumentError

MAX_FILTER_BYTES = 4096

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
_WORD_LITERALS = frozenset({"BOOLEAN", "NULL_LITERAL"})
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?|[-+]?\.[0-9]+([eE][-+]?[0-9]+)?")

_Node = dict[str, Any]
_Text = tuple[str, str]
"""The same condition for DuckDB and for Lance."""


def read_filter(cursor: duckdb.DuckDBPyConnection, text: str, schema: pa.Schema) -> Filter:
    """Read the filter of a search over the columns of a schema. Raises InvalidArgumentError."""
    size = len(text.encode())
    if size > MAX_FILTER_BYTES:
        raise InvalidArgumentError(f"the filter is {size} bytes long, at most {MAX_FILTER_BYTES} are read")
    writer = _Writer({name.lower(): name for name in schema.names if not _is_nested(schema.field(name).type)})
    sql, lance = writer.write(_condition(cursor, text))
    return Filter(sql, "" if writer.is_only_duckdb else lance, tuple(writer.columns))


def _is_nested(kind: pa.DataType) -> bool:
    return pa.types.is_nested(kind)


def _condition(cursor: duckdb.DuckDBPyConnection, text: str) -> _Node:
    """Return the node of a condition; all else around it must be as around any other."""
    if not text.strip():
        raise InvalidArgumentError("the filter is empty: leave it out to search all rows")
    tree, plain = _tree(cursor, text), _tree(cursor, "true")
    if tree["error"]:
        raise InvalidArgumentError(f"the filter cannot be read: {tree['error_message']}")
    found: list[_Node] = [statement["node"].pop("where_clause", {}) for statement in tree["statements"]]
    for statement in plain["statements"]:
        del statement["node"]["where_clause"]
    if [item["node"] for item in tree["statements"]] != [item["node"] for item in plain["statements"]]:
        raise InvalidArgumentError(f"a filter is one condition of {_ALLOWED}")
    return found[0]


def _tree(cursor: duckdb.DuckDBPyConnection, text: str) -> _Node:
    rows = cursor.execute("SELECT json_serialize_sql($1)", [_PREFIX + text + _SUFFIX]).fetchall()
    try:
        tree: _Node = json.loads(rows[0][0])
    except RecursionError as error:
        raise InvalidArgumentError("the filter is nested too deeply") from error
    return tree


@dataclass(slots=True)
class _Writer:
    """Writes a condition anew; `names` are the columns that there are, by their folded names."""

    names: Mapping[str, str]
    columns: dict[str, None] = field(default_factory=dict)
    is_only_duckdb: bool = False

    def write(self, node: _Node) -> _Text:
        """Return a condition. Raises InvalidArgumentError for what is none of those allowed."""
        return self._rule(node, _CONDITIONS)(self, node)

    def _value(self, node: _Node) -> _Text:
        return self._rule(node, _VALUES)(self, node)

    def _rule(self, node: _Node, rules: "Mapping[str, _Rule]") -> "_Rule":
        rule = rules.get(node["class"])
        if rule is None:
            said = str(node.get("function_name") or node["type"]).lower().replace("_", " ")
            raise InvalidArgumentError(f"a filter cannot hold {said}: it takes {_ALLOWED}")
        return rule

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
        return _joined(f" {sign} ", [self._value(node["left"]), self._value(node["right"])])

    def _between(self, node: _Node) -> _Text:
        parts = [self._value(node[part]) for part in ("input", "lower", "upper")]
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
            values = [self._value(child) for child in children]
            return _each(values, lambda text: f"({text[0]} {_LISTS[kind]} ({', '.join(text[1:])}))")
        return self._rule({**node, "class": kind}, _VALUES)(self, node)

    def _pattern(self, node: _Node) -> _Text:
        word = _PATTERNS.get(node["function_name"]) if node["is_operator"] else None
        if word is None:
            return self._rule({**node, "class": node["function_name"]}, _VALUES)(self, node)
        value, pattern = [self._value(argument["expression"]) for argument in node["arguments"]]
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
