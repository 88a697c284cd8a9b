"""Which table a qualified column means: `t.x`, `testing.t.x`, `lakehouse.testing.t.x`.

The schema of a dataset is gone from the text that runs, and of two datasets with one name each
has another alias there: so such columns are rewritten to the alias of the table they mean. A
column sees the tables of its own FROM clause first, then those of the clauses around it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from flight_server.domain.dataset import CATALOG
from flight_server.engine.parse import ParsedStatement
from flight_server.engine.walk import ColumnReference, TableReference
from flight_server.frames.requests import TableName


@dataclass(frozen=True, slots=True)
class Renamed:
    """A column's table as it must be written: `alias` in the place of the first `parts` parts."""

    column: ColumnReference
    alias: str
    parts: int


def aliases(parsed: ParsedStatement) -> dict[int, str]:
    """Return the alias of each table, by identity: its own, else its name.

    Of several datasets with one name in a statement each gets all of its path, and its version.
    """
    unaliased = {table.name for table in parsed.tables if not table.alias}
    uses = Counter(name.path[-1].lower() for name in unaliased)
    return {id(table): table.alias or _own_alias(table.name, uses) for table in parsed.tables}


def _own_alias(name: TableName, uses: Mapping[str, int]) -> str:
    if uses[name.path[-1].lower()] == 1:
        return name.path[-1]
    moment = name.version if name.version is not None else name.at
    return ".".join(name.path) + ("" if moment is None else f"@{moment}")


def renamed(parsed: ParsedStatement, chosen: Mapping[int, str]) -> Iterator[Renamed]:
    """Yield the columns that must be written otherwise, given the alias of each table."""
    tables: dict[int, list[TableReference]] = defaultdict(list)
    for table in parsed.tables:
        if not table.alias:
            tables[table.scope].append(table)
    for column in parsed.columns:
        found = _meant(column, tables, parsed)
        if found is None:
            continue
        table, parts = found
        alias = chosen[id(table)]
        if parts > 1 or alias.lower() != column.path[0].lower():
            yield Renamed(column, alias, parts)


def returned(parsed: ParsedStatement, name: str) -> Iterator[Renamed]:
    """Yield the columns of a plain INSERT's RETURNING that are written with the name of its target.

    DuckDB knows the table there by the name that it has, and not by an alias (with ON CONFLICT it does):
    here it goes by both.
    """
    if parsed.returning is None or parsed.target is None:
        return
    own = parsed.target.name.path, (parsed.target.alias,)
    for column in parsed.columns:
        if column.start >= parsed.returning and len(column.path) > 1:
            parts = [
                count
                for count in range(len(column.path) - 1, 0, -1)
                if any(_ends_with(path, _folded(column.path[:count])) for path in own)
            ]
            if parts:
                yield Renamed(column, name, parts[0])


def _meant(
    column: ColumnReference, tables: Mapping[int, Sequence[TableReference]], parsed: ParsedStatement
) -> tuple[TableReference, int] | None:
    """Return the table that a column means and how many of its parts name it; None leaves it as it is."""
    scope: int | None = column.scope
    while scope is not None:
        if column.path[0].lower() in parsed.aliases.get(scope, ()):
            return None
        for parts in range(len(column.path) - 1, 0, -1):
            prefix = _folded(column.path[:parts])
            matching = [table for table in tables.get(scope, ()) if _ends_with(table.name.path, prefix)]
            if matching:
                return (matching[0], parts) if len(matching) == 1 else None
        scope = parsed.parents.get(scope)
    return None


def _folded(path: Sequence[str]) -> tuple[str, ...]:
    folded = tuple(part.lower() for part in path)
    return folded[1:] if len(folded) > 2 and folded[0] == CATALOG else folded


def _ends_with(path: Sequence[str], prefix: Sequence[str]) -> bool:
    return _folded(path)[-len(prefix) :] == tuple(prefix)
