"""INSERT, UPDATE, DELETE, TRUNCATE and MERGE of datasets.

The statement runs as the client wrote it, with a hidden table in the place of its target (`dataset_table`).
Where else it names the dataset, it reads the version that it started from. Run several times, for several
rows of parameters, it must see what it has done so far: then all of the dataset is in the hidden table.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial

import duckdb

from flight_server.engine import affected, parameters, quote, writes
from flight_server.engine.binding import Binding, bind
from flight_server.engine.dataset_objects import DatasetObjects
from flight_server.engine.dataset_table import DatasetTable
from flight_server.engine.inserts import Insertion
from flight_server.engine.markers import markers, replaced
from flight_server.engine.parse import ParsedStatement, parse_write
from flight_server.engine.preparation import Preparation
from flight_server.engine.ready import Ready, Written
from flight_server.engine.relations import Relations
from flight_server.engine.searches import Fill
from flight_server.engine.sessions import EngineSessions
from flight_server.engine.splice import Place
from flight_server.engine.statement import Done, Statement
from flight_server.engine.streamed_insert import may_stream, stream
from flight_server.errors import InvalidArgumentError
from flight_server.frames.changes import StatementChange, Target, Use

Cursor = duckdb.DuckDBPyConnection

_MAX_SEARCHES = 32
"""For more rows of parameters than these the dataset is loaded instead of searched for each."""


class DatasetWrites:
    """Runs the statements that write rows of datasets."""

    def __init__(self, preparation: Preparation, relations: Relations, sessions: EngineSessions) -> None:
        self._preparation = preparation
        self._stores = relations.stores
        self._sessions = sessions

    def bind(self, cursor: Cursor, statement: Statement, parsed: ParsedStatement) -> Binding:
        """Return what a statement returns and takes without running it."""
        objects = DatasetObjects(self._stores)
        target = self._target(statement, parsed)
        with self._table(cursor, target, objects) as table:
            ready = self._ready(cursor, statement, parsed, table, target)
            with self._preparation.available(cursor, statement, ready):
                return bind(cursor, ready.sql)

    def run(self, cursor: Cursor, statement: Statement, parsed: ParsedStatement) -> Done:
        """Run a statement; what it has written is kept only when its change is."""
        target = self._target(statement, parsed)
        if _empties(parsed):
            return self._emptied(cursor, target)
        objects = DatasetObjects(self._stores, target.room)
        with ExitStack() as stack:
            table = stack.enter_context(self._table(cursor, target, objects))
            ready = self._ready(cursor, statement, parsed, table, target)
            if may_stream(parsed, table.schema) and not table.loaded:
                return self._streamed(cursor, statement, parsed, ready, table)
            stands_still = writes.atomic(cursor) if affected.reads_clock(ready.sql) else nullcontext()
            available = self._preparation.available(cursor, statement, ready, with_rows=True)
            with stands_still, available as fill:
                before = partial(self._load, cursor, parsed, table, fill)
                if parsed.returns_rows:
                    count, messages = writes.returned(cursor, ready, statement, fill, before)
                else:
                    count, messages = writes.changed(cursor, ready, parsed, statement, fill, before), ()
            if count == 0:
                return Done(messages=messages)
            try:
                table.check_keys()
                return Done(count, messages=messages, changes=(table.change(),), discard=objects.discard)
            except BaseException:
                objects.discard()
                raise

    def _streamed(
        self,
        cursor: Cursor,
        statement: Statement,
        parsed: ParsedStatement,
        ready: Ready,
        table: DatasetTable,
    ) -> Done:
        """Write what an INSERT's query returns without having all of it anywhere."""
        objects = table.objects
        try:
            with self._preparation.available(cursor, statement, ready, with_rows=True) as fill:
                fill(None)
                if statement.messages:  # of no parameter, as drivers send them
                    parameters.bind_values(cursor, ready.sql, statement.messages)
                bind(cursor, ready.sql)
                written = stream(cursor, ready.sql, parsed, objects, table.place, table.schema)
        except BaseException:
            objects.discard()
            raise
        count = sum(item.rows for item in written)
        return Done(count, changes=(table.change_of(written),) if count else (), discard=objects.discard)

    def _target(self, statement: Statement, parsed: ParsedStatement) -> Target:
        """Return the dataset that a statement writes. Raises InvalidArgumentError when it is a view."""
        assert parsed.target is not None  # noqa: S101 - a statement that writes has one
        target = statement.questions.target(parsed.target.name.path, _use(statement, parsed))
        if target.kind != "table":
            raise InvalidArgumentError(f"{target.name} is a view: write to the tables that it reads")
        return target

    @contextmanager
    def _table(self, cursor: Cursor, target: Target, objects: DatasetObjects) -> Iterator[DatasetTable]:
        table = DatasetTable(cursor, self._sessions, target, objects)
        try:
            yield table
        finally:
            table.drop()

    def _ready(
        self,
        cursor: Cursor,
        statement: Statement,
        parsed: ParsedStatement,
        table: DatasetTable,
        target: Target,
    ) -> Ready:
        """Prepare a statement over the hidden table."""
        place = Place(table.path)
        ready = self._preparation.prepare(
            cursor, statement, parsed, written=Written(place, target.relation or "")
        )
        if not parsed.parameters or len(statement.messages) < 2 or target.relation not in ready.pins:
            return ready
        with self._preparation.available(cursor, statement, ready):
            table.load()
        return self._preparation.prepare(
            cursor, statement, parsed, written=Written(place, target.relation or "", instead=place)
        )

    def _load(
        self,
        cursor: Cursor,
        parsed: ParsedStatement,
        table: DatasetTable,
        fill: Fill,
        text: str,
        runs: writes.Runs,
    ) -> None:
        """Load what the statement, which is about to run with these values, may change."""
        node = parsed.write_node
        if node is not None and node["type"] == "INSERT_QUERY_NODE":
            self._load_conflicting(cursor, parsed, table, fill, text, runs)
        elif not affected.can_be_searched(parsed) or len(runs) > _MAX_SEARCHES:
            table.load()
        elif not table.is_loaded:
            bind(cursor, text)  # what it may name: a scan has more columns
            hidden = parse_write(cursor, text)
            if affected.takes_rows_whole(hidden, table.schema.names):
                table.load()
                return
            with table.scan() as scan:
                query = affected.finder(cursor, hidden, scan, table.object_column)
                found: set[str] = set()
                for values in runs:
                    fill(values)
                    rows = cursor.execute(query, writes.given(query, values)).fetchall()
                    found |= {path for (path,) in rows}
            table.load(found)

    def _load_conflicting(
        self,
        cursor: Cursor,
        parsed: ParsedStatement,
        table: DatasetTable,
        fill: Fill,
        text: str,
        runs: writes.Runs,
    ) -> None:
        """Load the objects with the keys of the rows that an INSERT with a conflict clause brings."""
        if table.is_loaded or not (parsed.write_node or {}).get("on_conflict_info"):
            return
        if not affected.is_stable(parsed):
            table.load()
            return
        path = table.new_table()
        numbered = replaced(text, {marker.name: f"${marker.name}" for marker in markers(text)})
        plain = Insertion(numbered).plain(quote.path(table.path), quote.path(path))
        for values in runs:
            fill(values)
            cursor.execute(plain, writes.given(plain, values))
        with table.scan() as scan:
            found = {
                row for query in table.key_searches(scan, path) for (row,) in cursor.execute(query).fetchall()
            }
        table.load(found)

    def _emptied(self, cursor: Cursor, target: Target) -> Done:
        """Take all objects away without looking into them."""
        if not target.objects:
            return Done()
        counts = [item.rows for item in target.objects]
        known = [count for count in counts if count is not None]
        if len(known) < len(counts):
            with self._table(cursor, target, DatasetObjects(self._stores)) as table, table.scan() as scan:
                known = [cursor.execute(f"SELECT count(*) FROM {quote.path(scan)}").fetchall()[0][0]]  # noqa: S608
        removed = tuple((item.bucket, item.key) for item in target.objects)
        change = StatementChange(
            "rewrite",
            target.kind,
            target.namespace,
            target.name,
            target.bucket,
            target.dataset_id,
            target.version,
            removed,
        )
        return Done(sum(known), changes=(change,))


def _use(statement: Statement, parsed: ParsedStatement) -> Use:
    """Return what a statement wants of its target; one that reads, run several times, may read that too."""
    node = parsed.write_node
    is_insert = node is not None and node["type"] == "INSERT_QUERY_NODE"
    reads_once = len(parsed.tables) == 1 or len(statement.messages) < 2
    return Use.APPEND if is_insert and reads_once else Use.CHANGE


def _empties(parsed: ParsedStatement) -> bool:
    """Tell whether a statement removes all rows and returns none."""
    node = parsed.write_node
    return (
        node is not None
        and node["type"] == "DELETE_QUERY_NODE"
        and not affected.is_restricted(node)
        and (not parsed.returns_rows or not node.get("returning_list"))
    )
