"""Finds the objects of a dataset that hold rows which a statement may change.

What is asked is made of the statement's own parse tree: the objects of the rows of its target, joined with
its FROM or USING, under its WHERE. Where that could be answered otherwise when the statement itself runs,
nothing is asked: then everything is affected.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import duckdb

from flight_server.engine import quote
from flight_server.engine.merge import Merge
from flight_server.engine.parse import ParsedStatement, parse
from flight_server.engine.tokens import Reader
from flight_server.engine.walk import Node

UNSTABLE_FUNCTIONS = frozenset(
    {
        "any_value", "approx_count_distinct", "approx_quantile", "approx_top_k", "arbitrary", "arg_max",
        "arg_max_null", "arg_min", "arg_min_null", "array_agg", "first", "gen_random_uuid", "group_concat",
        "last", "list", "listagg", "max_by", "min_by", "mode", "random", "reservoir_quantile", "setseed",
        "string_agg", "uuid", "uuidv4", "uuidv7",
    }
)  # fmt: skip
"""Functions whose result may be another the next time, some because the order of rows is."""

_CLOCK = frozenset(
    {
        "age", "current_date", "current_localtime", "current_localtimestamp", "current_time",
        "current_timestamp", "get_current_time", "get_current_timestamp", "localtime", "localtimestamp",
        "now", "today", "transaction_timestamp",
    }
)  # fmt: skip

_UNSTABLE_TYPES = frozenset({"LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER"})


def is_stable(parsed: ParsedStatement) -> bool:
    """Tell whether a statement finds the same rows each time that it looks at the same data."""
    return UNSTABLE_FUNCTIONS.isdisjoint(parsed.functions) and not any(map(_is_unstable, _nodes(parsed.tree)))


def reads_clock(sql: str) -> bool:
    """Tell whether a text asks for the time, which stands still in a transaction only."""
    folded = sql.lower()
    if not any(name in folded for name in _CLOCK):
        return False  # of a long text the tokens take seconds
    return any(token.value.lower() in _CLOCK for token in Reader(sql).tokens)


def _nodes(tree: Any) -> Iterator[Node]:
    waiting: list[Any] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _is_unstable(node: Node) -> bool:
    return bool(
        node.get("type") in _UNSTABLE_TYPES
        or node.get("class") == "WINDOW"
        or node.get("sample")
        or node.get("distinct_on_targets")
    )


def can_be_searched(parsed: ParsedStatement) -> bool:
    """Tell whether an UPDATE, DELETE or MERGE may affect a part of the objects, which can be found."""
    node = parsed.write_node
    is_whole = parsed.merge.is_whole if parsed.merge is not None else node is None or not is_restricted(node)
    return not is_whole and is_stable(parsed)


def is_restricted(node: Node) -> bool:
    """Tell whether an UPDATE or DELETE names what it is about, so that looking for it may pay."""
    return _condition(node) is not None or bool(_sources(node))


def takes_rows_whole(parsed: ParsedStatement, columns: Collection[str]) -> bool:
    """Tell whether what a statement affects depends on its target's rows as such, or on columns by a pattern.

    A scan has one column more than the dataset, whose `columns` are these.
    """
    assert parsed.target is not None  # noqa: S101 - a statement that writes has one
    name = (parsed.target.alias or parsed.target.name.path[-1]).lower()
    is_column = name in {column.lower() for column in columns}
    nodes = [*_nodes(_searched(parsed))]
    stars = [node for node in nodes if node.get("type") == "STAR"]
    refs = [node["column_names"] for node in nodes if node.get("type") == "COLUMN_REF" and not is_column]
    return any(
        star["relation_name"].lower() == name or (star["columns"] and not star["relation_name"])
        for star in stars
    ) or any([part.lower() for part in parts] == [name] for parts in refs)


def _searched(parsed: ParsedStatement) -> list[Any]:
    """Return the parts of a statement that say which rows it affects."""
    node = parsed.write_node
    if node is not None:
        return [_condition(node), _sources(node), node["cte_map"]]
    assert parsed.merge is not None  # noqa: S101 - what writes and has no node is a MERGE
    select = parsed.tree["statements"][0]["node"]
    # The columns returned come first, then the conditions, of which that of ON is the first.
    conditions = select["select_list"][
        -len(parsed.merge.texts("condition") + parsed.merge.texts("expression")) :
    ]
    is_on = parsed.merge.using is None
    return [conditions[0] if is_on else None, select["from_table"], select["cte_map"]]


def finder(
    cursor: duckdb.DuckDBPyConnection, parsed: ParsedStatement, scan: Sequence[str], object_column: str
) -> str:
    """Return the query that finds the objects that a statement affects.

    The statement is one over hidden relations, as it will run; the scan has an `object_column`.
    """
    if parsed.merge is not None:
        return _of_merge(parsed, parsed.merge, scan, object_column)
    node = parsed.write_node
    assert node is not None  # noqa: S101 - what writes and is no MERGE has one
    target: Node = dict(node["table"])
    target.update(_path(scan), alias=target.get("alias") or parsed.names[0].path[-1])
    tree = parse(cursor, f"SELECT DISTINCT {quote.identifier(object_column)} FROM a, b").tree  # noqa: S608 - quoted
    select = tree["statements"][0]["node"]
    join, select["from_table"] = select["from_table"], target
    for source in _sources(node):
        select["from_table"] = {**join, "left": select["from_table"], "right": source}
    select["where_clause"], select["cte_map"] = _condition(node), node["cte_map"]
    rows = cursor.execute("SELECT json_deserialize_sql($1::JSON)", [json.dumps(tree)]).fetchall()
    return str(rows[0][0])


def _condition(node: Node) -> Any:
    return (node.get("set_info") or {}).get("condition") if "set_info" in node else node.get("condition")


def _sources(node: Node) -> list[Any]:
    return [item for item in (node.get("from_table"), *node.get("using_clauses", ())) if item]


def _path(path: Sequence[str]) -> Node:
    catalog, schema, table = ("", "", *path)[-3:]
    return {
        "catalog_name": catalog,
        "schema_name": schema,
        "table_name": table,
        "qualified_name": {"path": list(path)},
    }


def _of_merge(parsed: ParsedStatement, merge: Merge, scan: Sequence[str], object_column: str) -> str:
    assert parsed.target is not None  # noqa: S101 - a MERGE has one
    written = quote.path(parsed.target.name.path)
    target = quote.path(scan) + merge.texts("target")[0].removeprefix(written)
    joined = f"USING ({merge.using})" if merge.using is not None else f"ON ({merge.texts('condition')[0]}\n)"
    return (
        f"{''.join(merge.texts('with'))} SELECT DISTINCT {quote.identifier(object_column)} "  # noqa: S608 - gated
        f"FROM {target} JOIN {merge.texts('source')[0]}\n{joined}"
    )
