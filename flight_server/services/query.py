"""Queries: planned at a commit, then streamed by whoever holds the ticket."""

import itertools
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, closing
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa

from flight_server.dispatch.statements import (
    Answer,
    DoneStatement,
    PlannedStatement,
    SeveralStatements,
    StatementRequest,
)
from flight_server.domain.call import CallContext
from flight_server.domain.dataset import DatasetTotals
from flight_server.domain.execution import Execution
from flight_server.domain.identity import fingerprint
from flight_server.domain.recent import RecentMap
from flight_server.domain.session import DICTIONARIES, StatementSession
from flight_server.domain.staging import Snapshot
from flight_server.domain.statement import Plan, SqlStatement
from flight_server.errors import InvalidArgumentError, LakehouseError, NotFoundError
from flight_server.frames.flight_data import encapsulate, parse
from flight_server.frames.requests import TableName
from flight_server.services.handles import Opened, Renewed
from flight_server.services.kept_state import KeptState
from flight_server.services.query_options import QueryOptions
from flight_server.services.statement_resolution import StatementResolution
from flight_server.services.statement_targets import StatementTargets
from flight_server.services.transactions import Transaction

_NO_FIELDS: bytes = pa.schema([]).serialize().to_pybytes()
_KIND = "statement"
_SESSION_FIELDS = ("session", "settings", "transaction", "has_state", "profile")
_REMEMBERED_BYTES = 16 * 1024 * 1024
_TICKET_SECONDS = 12 * 3600
"""How long a ticket is good for until it is renewed."""


class QueryService:
    """Plans and streams statements.

    `_names_by_sql` remembers which dataset names a text holds, so that they can be resolved
    before the engine process asks; it never decides what may be read. `_planned` remembers what
    a text over certain relations returns.
    """

    def __init__(self, options: QueryOptions) -> None:
        self._dispatcher = options.dispatcher
        self._names = options.names
        self._transactions = options.transactions
        self._handles = options.handles
        self._queries = options.queries
        self._held = options.held
        self._sessions = options.sessions
        self._verbs = options.verbs
        self._writes = options.writes
        self._limits, self._admission = options.limits, options.admission
        self._names_by_sql: RecentMap[object, tuple[TableName, ...]] = RecentMap(_REMEMBERED_BYTES)
        self._planned: RecentMap[object, PlannedStatement] = RecentMap(_REMEMBERED_BYTES)
        self._kept = KeptState(options.sessions, options.dispatcher)

    async def plan(
        self, call: CallContext, statement: SqlStatement, parameters: Sequence[bytes] = ()
    ) -> Plan:
        """Bind a query at the newest commit, or at its transaction's, and return its ticket.

        A statement that has effects is run: its plan has rows to fetch only when it returned some.
        """
        query = self._queries.open(call, statement.sql)
        with self._queries.running(query) as execution:
            answer, transaction, snapshot = await self._run_all(call, statement, parameters, execution)
            if isinstance(answer, DoneStatement):
                execution.rows = answer.count
                return await self._done(call, answer, statement.transaction_id, query.id)
        self._queries.planned(query.id)
        fields = self._fields(call, answer.sql, snapshot) | {
            "transaction": transaction.unit.hex() if transaction and snapshot.changes else None,
            "staged": len(snapshot.changes),
            "query": query.id,
            "has_state": not answer.is_shared and self._session(call).has_state,
            "worked": execution.worked,
        }
        return self._sealed(call, answer.schema, fields, parameters)

    async def _done(
        self, call: CallContext, done: DoneStatement, transaction_id: bytes | None, known_id: str
    ) -> Plan:
        """Do what a statement asks of its session; return its count, or the rows that it returned."""
        session = self._sessions.find(call.session_id)
        if session is not None:
            session.holdings = done.holdings
        elif done.holdings:  # its session was closed meanwhile
            await self._dispatcher.forget(call.session_id)
        if done.verb is not None:
            await self._verbs.run(call, done.verb, transaction_id)
        if not done.messages:
            return Plan(_NO_FIELDS, b"", rows=done.count, query_id=known_id)
        fields = self._fields(call, "", Snapshot(0)) | {"query": known_id, "is_result": True}
        schema = encapsulate(parse(done.messages[0]).header)
        return replace(self._sealed(call, schema, fields, done.messages), rows=done.count)

    async def plan_dataset(self, call: CallContext, path: Sequence[str]) -> Plan:
        """Plan reading all of one dataset, named by `[dataset]` or `[bucket, dataset]`."""
        _, snapshot = self._snapshot(call, None)
        planned = await self._bind(call, SqlStatement(_whole(path)), None, snapshot, (), Execution())
        search_path = self._names.search_path(call, snapshot)
        resolution = StatementResolution(self._names, call.identity, search_path, snapshot)
        return self.seal_dataset(
            call, path, snapshot.commit, planned.schema, resolution.totals(TableName(tuple(path)))
        )

    def seal_dataset(
        self,
        call: CallContext,
        path: Sequence[str],
        commit: int,
        schema: bytes,
        totals: DatasetTotals | None,
    ) -> Plan:
        """Return the plan of reading all of a dataset at a commit, whose schema is known."""
        plan = self._sealed(call, schema, self._fields(call, _whole(path), Snapshot(commit)))
        return replace(plan, rows=totals.rows, bytes=totals.bytes) if totals else plan

    def _sealed(
        self, call: CallContext, schema: bytes, fields: dict[str, Any], parameters: Sequence[bytes] = ()
    ) -> Plan:
        expires = time.time() + _TICKET_SECONDS
        handle = self._handles.seal(_KIND, call, fields, parameters, expires)
        return Plan(schema, handle, expires=expires, query_id=fields["query"])

    def renew(self, call: CallContext, handle: bytes) -> Renewed:
        """Return the ticket's handle, good for longer. Raises NotFoundError when it has expired."""
        return self._handles.renew(_KIND, call, handle, time.time() + _TICKET_SECONDS)

    def query_id(self, call: CallContext, handle: bytes) -> str:
        """Return the id of the query that a ticket's handle runs. Raises NotFoundError like `stream`."""
        return str(self._handles.open(_KIND, call, handle).fields["query"])

    def _fields(self, call: CallContext, sql: str, snapshot: Snapshot) -> dict[str, Any]:
        """Return what a ticket carries of a statement outside a transaction."""
        session = self._session(call)
        return {
            "sql": sql,
            "commit": snapshot.commit,
            "path": self._names.search_path(call, snapshot),
            "transaction": None,
            "staged": 0,
            "query": self._queries.new_id(),
            "session": session.id,
            "profile": session.profile,
            "settings": dict(session.settings),
            "has_state": False,
            "is_result": False,
            "worked": 0.0,
            "may": fingerprint(call.identity),
        }

    async def schema(self, call: CallContext, statement: SqlStatement) -> bytes:
        """Return the schema of a statement's rows; nothing is run."""
        return (await self.prepare(call, statement, (), Execution())).schema

    async def update(
        self, call: CallContext, statement: SqlStatement, parameters: Sequence[bytes] = ()
    ) -> int:
        """Run a statement that has effects; return how many rows it changed."""
        query = self._queries.open(call, statement.sql)
        with self._queries.running(query) as execution:
            answer, _, _ = await self._run_all(call, statement, parameters, execution)
            if isinstance(answer, PlannedStatement):
                raise InvalidArgumentError("this statement returns rows: send it as a query, not an update")
            return (await self._done(call, answer, statement.transaction_id, query.id)).rows or 0

    async def update_at(
        self,
        call: CallContext,
        sql: str,
        transaction: Transaction | None,
        snapshot: Snapshot,
        targets: StatementTargets | None = None,
    ) -> None:
        """Run a statement of ours on a snapshot; without `targets` it changes temporary tables only."""
        query = self._queries.open(call, sql)
        with self._queries.running(query) as execution, self._kept.noting_loss(call):
            request = self._request(call, SqlStatement(sql), transaction, snapshot, (), execution)
            engine = self._dispatcher.of(call.identity)
            answer = await engine.run(replace(request, targets=targets))
            if isinstance(answer, DoneStatement):
                await self._done(call, answer, None, query.id)

    async def prepare(
        self, call: CallContext, statement: SqlStatement, parameters: Sequence[bytes], execution: Execution
    ) -> PlannedStatement:
        """Bind a statement without a ticket; nothing is run."""
        transaction, snapshot = self._snapshot(call, statement.transaction_id)
        return await self._bind(call, statement, transaction, snapshot, parameters, execution)

    async def _bind(
        self,
        call: CallContext,
        statement: SqlStatement,
        transaction: Transaction | None,
        snapshot: Snapshot,
        parameters: Sequence[bytes],
        execution: Execution,
    ) -> PlannedStatement:
        """Ask the engine process for the schemas of a statement."""
        request = self._request(call, statement, transaction, snapshot, parameters, execution)
        known = None if parameters else self._known(request)
        if known is not None:
            return known
        targets = self._writes.targets(call, transaction, snapshot)
        with self._kept.noting_loss(call), closing(targets):
            engine = self._dispatcher.of(call.identity)
            planned = await engine.plan(replace(request, targets=targets))
        return planned if parameters else self._remembered(request, planned)

    async def _run_all(
        self, call: CallContext, statement: SqlStatement, parameters: Sequence[bytes], execution: Execution
    ) -> tuple[PlannedStatement | DoneStatement, Transaction | None, Snapshot]:
        """Run the statements of a text one by one, as if each came alone; return what the last one gave."""
        execution.worked = statement.worked
        answer, transaction, snapshot = await self._run(call, statement, parameters, execution)
        if not isinstance(answer, SeveralStatements):
            return answer, transaction, snapshot
        *before, last = [replace(statement, sql=text, expected="") for text in answer.texts]
        for part in before:
            done, _, _ = await self._run_all(call, part, (), execution)
            if isinstance(done, DoneStatement):
                await self._done(call, done, statement.transaction_id, "")
        return await self._run_all(call, last, (), execution)

    async def _run(
        self, call: CallContext, statement: SqlStatement, parameters: Sequence[bytes], execution: Execution
    ) -> tuple[Answer, Transaction | None, Snapshot]:
        """Bind a query, or run a statement that has effects; tell in which transaction, and what it read.

        In a transaction that was aborted there is nothing to do but to end it, which a verb asks for.
        Outside of a transaction one whose changes meet those of others is run again on what these made.
        """
        for attempt in itertools.count(1):
            transaction, snapshot = self._snapshot(call, statement.transaction_id)
            request = self._request(call, statement, transaction, snapshot, parameters, execution)
            is_new = parameters or (transaction and transaction.is_aborted)
            known = None if is_new else self._known(request)
            if known is not None and statement.expected in ("", known.digest):
                return known, transaction, snapshot
            targets = self._writes.targets(call, transaction, snapshot)
            try:
                with self._kept.noting_loss(call), closing(targets):
                    async with self._admission.admitted(call.identity.name, "plan", statement.sql):
                        engine = self._dispatcher.of(call.identity)
                        answer = await engine.run(replace(request, targets=targets))
                break
            except LakehouseError:
                if not await self._writes.may_run_again(targets, transaction, attempt):
                    raise
        if transaction is not None and not isinstance(answer, SeveralStatements):
            transaction.check(answer.verb if isinstance(answer, DoneStatement) else None)
        if isinstance(answer, PlannedStatement) and not parameters:
            answer = self._remembered(request, answer)
        return answer, transaction, snapshot

    def _known(self, request: StatementRequest) -> PlannedStatement | None:
        """Return what a text over the same relations was planned to before: these never change."""
        if request.session.has_state or self._names_by_sql.get(request.text_key) is None:
            return None
        return self._planned.get(_key(request))

    def _remembered(self, request: StatementRequest, planned: PlannedStatement) -> PlannedStatement:
        if planned.is_shared and not request.session.has_state:
            weight = len(request.sql) + len(planned.schema) + len(planned.parameters)
            self._names_by_sql.put(request.text_key, planned.names, weight)
            if request.relations.keys() == set(planned.names):
                self._planned.put(_key(request), planned, weight)
        return planned

    async def stream(
        self, call: CallContext, handle: bytes, measured: bool = False
    ) -> AsyncGenerator[bytes, None]:
        """Run the statement of a ticket; yield its FlightData messages, the schema first.

        The result of a finished poll is taken from memory. Closing the generator cancels; of a run
        that is `measured` the engine process knows the progress.
        """
        opened = self._handles.open(_KIND, call, handle)
        query = self._queries.open(call, opened.fields["sql"], opened.fields["query"])
        if (held := self._held_result(call, opened, query.id)) is not None:
            for message in held:
                yield message
            return
        with self._queries.running(query, opened.fields["worked"]) as execution:
            request = replace(
                self._reopened(call, opened),
                execution=execution,
                query_id=query.id if measured else None,
                compression=call.compression,
            )
            admitted = self._admission.admitted(call.identity.name, "stream", request.sql)
            rows = self._dispatcher.of(call.identity).stream(request)
            with self._kept.noting_loss(call):
                async with admitted as work, aclosing(rows) as messages:
                    async for message in messages:
                        query.bytes += len(message)
                        work.is_read = True
                        yield message
                        work.is_read = False

    def _held_result(self, call: CallContext, opened: Opened, query_id: str) -> Sequence[bytes] | None:
        """Return the rows that are known already, None when the statement has to run.

        Whose grants have changed since sees none of them: a query runs again, with what it may read now.
        """
        may_see = opened.fields["may"] == fingerprint(call.identity)
        if not opened.fields["is_result"]:
            return self._held.result(query_id) if may_see else None
        if not may_see:
            raise NotFoundError(
                "your grants have changed since this statement ran, and what it returned is not kept: it has "
                "had its effect; read the table instead"
            )
        return opened.messages

    def _snapshot(
        self, call: CallContext, transaction_id: bytes | None
    ) -> tuple[Transaction | None, Snapshot]:
        """Return the transaction that a statement belongs to, if any, and what it reads."""
        transaction = self._transactions.joined(call, transaction_id)
        return transaction, self._transactions.snapshot(transaction)

    def _reopened(self, call: CallContext, opened: Opened) -> StatementRequest:
        """Return the request that runs the statement of a ticket."""
        fields = opened.fields
        snapshot = Snapshot(fields["commit"])
        if fields["transaction"] is not None:
            transaction = self._transactions.get_read(call, bytes.fromhex(fields["transaction"]))
            snapshot = Snapshot(fields["commit"], tuple(transaction.changes[: fields["staged"]]))
        session = StatementSession(*(fields[name] for name in _SESSION_FIELDS))
        shown = partial(self._verbs.options.show, call)
        path = self._names.readable(call.identity, fields["path"], snapshot)
        resolution = StatementResolution(self._names, call.identity, path, snapshot, shown)
        return self._ahead(fields["sql"], resolution, session, opened.messages, self._timeout(call))

    def _request(
        self,
        call: CallContext,
        statement: SqlStatement,
        transaction: Transaction | None,
        snapshot: Snapshot,
        parameters: Sequence[bytes],
        execution: Execution,
    ) -> StatementRequest:
        self._limits.check_length(statement.sql)
        session = self._session(call)
        if transaction is not None:
            session = replace(session, transaction=transaction.unit.hex())
        path = self._names.search_path(call, snapshot)
        resolution = StatementResolution(self._names, call.identity, path, snapshot)
        request = self._ahead(statement.sql, resolution, session, parameters, self._timeout(call))
        return replace(request, expected=statement.expected, execution=execution)

    def _ahead(
        self,
        sql: str,
        resolution: StatementResolution,
        session: StatementSession,
        parameters: Sequence[bytes],
        timeout: float | None,
    ) -> StatementRequest:
        """Resolve the names that a text is known to hold; a session's own may mean other things there."""
        names = () if session.has_state else self._names_by_sql.get((sql, session.profile)) or ()
        return StatementRequest(sql, resolution, parameters, resolution.ahead(names), timeout, session)

    def _session(self, call: CallContext) -> StatementSession:
        session = self._sessions.find(call.session_id)
        settings = {} if session is None else session.settings
        if call.dictionaries:
            settings = {**settings, DICTIONARIES: "true"}
        known_id = call.session_id if session is None else session.id
        has_state = session is not None and bool(session.holdings)
        return StatementSession(known_id, settings, has_state=has_state, profile=call.profile)

    def _timeout(self, call: CallContext) -> float | None:
        session = self._sessions.find(call.session_id)
        return self._limits.timeout_within(session.statement_timeout if session else None)


def _key(request: StatementRequest) -> object:
    return request.text_key, tuple(request.relations.items()), tuple(request.session.settings.items())


def _whole(path: Sequence[str]) -> str:
    return "FROM " + ".".join('"' + part.replace('"', '""') + '"' for part in path)
