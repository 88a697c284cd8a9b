"""EXPLAIN: what DuckDB says of a plan, without the server's paths and hidden names.

DuckDB draws its plans with boxes, in which a path may be broken over lines. So it is asked for JSON, from
which everything that is not the client's is taken out; the text form is written from that.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from flight_server.engine.kinds import Explain
from flight_server.engine.parameters import Values
from flight_server.engine.tokens import Reader
from flight_server.errors import InvalidArgumentError

SCHEMA = pa.schema({"explain_key": pa.utf8(), "explain_value": pa.utf8()})
"""What every EXPLAIN returns: a row for the plan, and one for each search."""

_FORMATS = {"TEXT": False, "DEFAULT": False, "JSON": True}
_HIDDEN_KEYS = frozenset({"Filename(s)", "sql"})
_UNMEASURED = {"result": "error"}
"""What DuckDB says instead of a measured plan of a query whose rows it has already, such as VALUES."""

_WRAPPERS = frozenset({"RESULT_COLLECTOR", "EXPLAIN_ANALYZE"})


@dataclass(frozen=True, slots=True)
class Options:
    """What an EXPLAIN asks for: to run the query too, and the plan as JSON instead of as text."""

    analyzes: bool
    is_json: bool

    @property
    def prefix(self) -> str:
        """What stands before the query when DuckDB is asked."""
        return f"EXPLAIN ({'ANALYZE, ' if self.analyzes else ''}FORMAT json) "


def options(kind: Explain) -> Options:
    """Read what stands before the query. Raises InvalidArgumentError."""
    reader = Reader(kind.prefix)
    reader.take("EXPLAIN")
    analyzes = bool(reader.take_any("ANALYZE", "ANALYSE"))
    is_json = False
    if reader.take("("):
        while not reader.take(")"):
            if reader.take_any("ANALYZE", "ANALYSE"):
                analyzes = reader.take_any("TRUE", "ON", "FALSE", "OFF") not in ("FALSE", "OFF")
            elif reader.take("FORMAT"):
                is_json = _format(reader)
            else:
                raise reader.unexpected("ANALYZE or FORMAT")
            reader.take(",")
    return Options(analyzes, is_json)


def _format(reader: Reader) -> bool:
    name = reader.token.value.upper() if reader.token else ""
    if name not in _FORMATS:
        raise InvalidArgumentError(f"EXPLAIN gives its plan as TEXT or JSON, not as {name or 'nothing'}")
    reader.at += 1
    return _FORMATS[name]


def explain(
    cursor: duckdb.DuckDBPyConnection,
    wanted: Options,
    sql: str,
    values: Values | None,
    shown: Callable[[str], str],
    searches: Sequence[str] = (),
) -> pa.Table:
    """Explain a query; `shown` puts the client's names in the place of hidden ones.

    What is said of its `searches` comes in rows of their own.
    """
    rows = cursor.execute(wanted.prefix + sql, values).fetchall()
    found = [(key, _written(_cleaned(json.loads(plan), shown), wanted.is_json)) for key, plan in rows]
    found += [("search", text) for text in searches]
    return pa.Table.from_arrays(
        [pa.array(column, pa.utf8()) for column in zip(*found, strict=True)], schema=SCHEMA
    )


def _cleaned(node: Any, shown: Callable[[str], str]) -> Any:
    if isinstance(node, dict):
        return {key: _cleaned(value, shown) for key, value in node.items() if key not in _HIDDEN_KEYS}
    if isinstance(node, list):
        return [_cleaned(item, shown) for item in node]
    return shown(node) if isinstance(node, str) else node


def _written(plan: Any, is_json: bool) -> str:
    if plan == _UNMEASURED:
        plan = [{"name": "RESULT", "extra_info": {"Measured": "nothing: the rows are known without running"}}]
    if is_json:
        return json.dumps(plan, indent=2, ensure_ascii=False)
    if isinstance(plan, list):
        return "\n".join(line for node in plan for line in _lines(node, 0)) + "\n"
    total = f"Total time: {plan['query']['total_time']:.4f} s"
    return "\n".join([total, *(line for node in plan["operator"] for line in _lines(node, 0))]) + "\n"


def _lines(node: dict[str, Any], depth: int) -> Iterator[str]:
    """Yield an operator, what is known of it, and below it those that it reads from."""
    name = node.get("name") or node.get("type", "")
    if name in _WRAPPERS:
        for child in node.get("children", []):
            yield from _lines(child, depth)
        return
    indent = "  " * depth
    yield f"{indent}{name}{_measured(node)}"
    for key, value in node.get("extra_info", {}).items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        if text:
            yield f"{indent}    {key}: {' '.join(text.split())}"
    for child in node.get("children", []):
        yield from _lines(child, depth + 1)


def _measured(node: dict[str, Any]) -> str:
    if "timing" not in node:
        return ""
    return f" ({node['intermediate_rows']} rows, {node['timing'] * 1000:.2f} ms)"
