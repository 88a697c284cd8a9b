"""What the steps of a case do, and what must hold after each."""

import re
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.flight
import pytest

from tests import flight_sql
from tests.conformance import values
from tests.conformance.adbc_session import AdbcSession
from tests.conformance.cases import Step
from tests.conformance.flight_session import FlightSession, same
from tests.conformance.target import RefusedError, refusals

Session = FlightSession | AdbcSession

_ENOUGH_SECONDS = 5.0
_ERRORS = {1: "INVALID_NAME", 2: "INVALID_VALUE", 3: "ERROR"}
_CANCELLED = 1
_IN_ANY = ("Command", "Action", "Ticket")


@dataclass(frozen=True, slots=True)
class Sessions:
    """The session of a case, and one beside it for steps that are `outside`; only made when needed."""

    own: Session
    other: Callable[[], Session]

    def of(self, step: Step) -> Any:
        """Return the session that a step speaks through."""
        return self.other() if step.get("outside") else self.own


def run(sessions: Sessions, step: Step) -> None:
    """Do what a step says and check what comes of it."""
    _STEPS[step.kind](sessions.of(step), step)


def _refused(step: Step, act: Callable[[], object]) -> None:
    with pytest.raises(RefusedError) as raised:
        act()
    assert re.fullmatch(step.get("error"), raised.value.status), raised.value
    assert re.search(step.get("message", ""), str(raised.value)), raised.value


def _bound(step: Step) -> pa.Table | None:
    bind = step.get("bind")
    return None if bind is None else values.table(bind["columns"], bind["rows"])


def _check_columns(step: Step, schema: pa.Schema) -> None:
    found = values.columns(schema)
    assert found == step.get("columns"), f"columns {found}, expected {step.get('columns')}"


def _check_answer(step: Step, table: pa.Table) -> None:
    """Compare columns and rows with what the step expects."""
    if step.get("columns") is not None:
        _check_columns(step, table.schema)
    found = values.rows(table)
    if step.get("rows") is not None:
        expected = values.expected(step.get("rows"))
        is_same = sorted(found) == sorted(expected) if step.get("unordered") else found == expected
        assert is_same, "rows\n" + "\n".join(found) + "\nexpected\n" + "\n".join(expected)
    assert re.search(step.get("matches", ""), "\n".join(found)), "\n".join(found)


def _query(session: Session, step: Step) -> None:
    answers: dict[str, pa.Table] = {}
    for way, ask in session.ways(step.subject, _bound(step)).items():
        if way not in step.get("prepared", (way,)):
            continue
        if step.get("error"):
            _refused(step, ask)
            continue
        answers[way] = ask()
        _check_answer(step, answers[way])
    if len(answers) == 2:
        same("prepared and unprepared", answers["prepared"].schema, answers["unprepared"].schema)
    if step.get("parameters") is not None and isinstance(session, FlightSession):
        with session.prepared(step.subject) as prepared:
            assert values.columns(prepared.parameters) == step.get("parameters")


def _returning(session: Session, step: Step) -> None:
    if step.get("error"):
        _refused(step, lambda: session.returning(step.subject, _bound(step)))
    else:
        _check_answer(step, session.returning(step.subject, _bound(step)))


def _update(session: Session, step: Step) -> None:
    if step.get("error"):
        _refused(step, lambda: session.update(step.subject, _bound(step)))
        return
    count = session.update(step.subject, _bound(step))
    assert step.get("count") in (None, count), f"{count} rows changed"


def _ingest(session: Session, step: Step) -> None:
    rows = values.table(step.get("columns"), step.get("rows"))
    said = {key: step.get(key) for key in ("schema", "catalog", "temporary") if step.get(key) is not None}

    def load() -> int:
        return session.ingest(step.subject, step.get("mode", "create"), rows, said)

    if step.get("error"):
        _refused(step, load)
    else:
        assert load() == step.get("count", rows.num_rows)


def _call(session: FlightSession, step: Step) -> None:
    descriptor = flight_sql.command(step.subject, **step.get("with", {}))
    if step.get("error"):
        _refused(step, lambda: session.fetch(session.info(descriptor)))
        return
    info = session.info(descriptor)
    same("FlightInfo and GetSchema", info.schema, session.schema(descriptor))
    table = session.fetch(info)
    if step.get("columns") is not None:
        _check_columns(step, table.schema)
    if "table_schema" in table.schema.names:
        table = _with_columns_in_words(table)
    table = table.select(step.get("select", table.schema.names))
    _check_answer(Step(step.kind, step.subject, {**step.said, "columns": None}), table)


def _with_columns_in_words(table: pa.Table) -> pa.Table:
    schemas = [pa.ipc.read_schema(pa.py_buffer(written)) for written in table["table_schema"].to_pylist()]
    at = table.schema.get_field_index("table_schema")
    return table.set_column(at, "table_schema", [[values.columns(schema) for schema in schemas]])


def _transaction(session: Session, step: Step) -> None:
    acts = {"begin": session.begin, "commit": session.commit, "rollback": session.rollback}
    if step.get("error"):
        _refused(step, acts[step.subject])
    else:
        acts[step.subject]()


def _set_options(session: Session, step: Step) -> None:
    if isinstance(session, AdbcSession) and step.get("errors"):
        with pytest.raises(RefusedError):
            session.set_options(step.subject)
        return
    errors = session.set_options(step.subject)
    assert {name: _ERRORS.get(error) for name, error in errors.items()} == step.get("errors", {})


def _show_options(session: Session, step: Step) -> None:
    shown = session.show_options()
    assert {name: shown[name] for name in step.subject} == step.subject


def _close_session(session: Session, _: Step) -> None:
    assert session.close_session() in (1, 2)


def _poll(session: FlightSession, step: Step) -> None:
    if step.get("error"):
        _refused(step, lambda: list(session.poll(step.subject)))
        return
    for found in session.poll(step.subject):
        for progress in found.get(3, []):
            assert 0.0 <= struct.unpack("<d", progress)[0] <= 1.0
    (info,) = found[1]
    _check_answer(step, session.fetch(pyarrow.flight.FlightInfo.deserialize(info)))


def _cancel(session: FlightSession, step: Step) -> None:
    """Begin a query that takes long, end it in one of the ways, and see that it ends soon."""
    started = time.monotonic()
    _CANCELS[step.get("by")](session, step.subject)
    assert time.monotonic() - started < _ENOUGH_SECONDS


def _drain(reader: Any) -> None:
    """Read to the end; `read_all` would take a cancelled call for Ctrl-C."""
    for _ in reader:
        pass


def _by_deadline(session: FlightSession, sql: str) -> None:
    with pytest.raises(RefusedError, match="DEADLINE_EXCEEDED"), refusals():
        _drain(session.reader(session.info(flight_sql.statement_query(sql)), timeout=0.1))


def _by_reset(session: FlightSession, sql: str) -> None:
    reader = session.reader(session.info(flight_sql.statement_query(sql)))
    reader.read_chunk()
    reader.cancel()
    with pytest.raises(RefusedError, match="CANCELLED"), refusals():
        _drain(reader)


def _by_info(session: FlightSession, sql: str) -> None:
    """Cancel with the bytes of the FlightInfo while its rows are read, and again."""
    info = session.info(flight_sql.statement_query(sql))
    reader = session.reader(info)
    reader.read_chunk()
    body = flight_sql.message("CancelFlightInfoRequest", info=info.serialize())
    for _ in range(2):
        (result,) = session.action("CancelFlightInfo", body)
        assert flight_sql.decode(result) == {1: [_CANCELLED]}
    with pytest.raises(RefusedError, match="CANCELLED"), refusals():
        _drain(reader)


def _by_query(session: FlightSession, sql: str) -> None:
    """Cancel a query that was not fetched yet, by the deprecated action; it cannot be fetched then."""
    info = session.info(flight_sql.statement_query(sql))
    body = flight_sql.packed("ActionCancelQueryRequest", info=info.serialize())
    (result,) = session.action("CancelQuery", body)
    assert flight_sql.unpacked(result) == {1: [_CANCELLED]}
    with pytest.raises(RefusedError, match="CANCELLED"), refusals():
        _drain(session.reader(info))


_CANCELS: Mapping[str, Callable[[FlightSession, str], None]] = {
    "deadline": _by_deadline,
    "reset": _by_reset,
    "CancelFlightInfo": _by_info,
    "CancelQuery": _by_query,
}


def _unread(session: FlightSession, step: Step) -> None:
    session.leave_unread(session.info(flight_sql.statement_query(step.subject)))


def _send(session: FlightSession, step: Step) -> None:
    name = step.get("body", "")
    pack = flight_sql.packed if name.startswith(_IN_ANY) else flight_sql.message
    body = pack(name, **step.get("with", {})) if name else bytes.fromhex(step.get("hex", ""))
    if step.get("error"):
        _refused(step, lambda: session.send(step.subject, body))
    else:
        session.send(step.subject, body)


_STEPS: Mapping[str, Callable[[Any, Step], None]] = {
    "query": _query,
    "returning": _returning,
    "update": _update,
    "ingest": _ingest,
    "call": _call,
    "transaction": _transaction,
    "set_options": _set_options,
    "show_options": _show_options,
    "close_session": _close_session,
    "poll": _poll,
    "cancel": _cancel,
    "unread": _unread,
    "send": _send,
}
"""The same kinds as `cases.KEYS`."""
