"""A session through `pyarrow.flight`: every call of the protocol, and what holds for every answer."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.flight

from tests import flight_sql
from tests.conformance.target import Target, refusals

Descriptor = pyarrow.flight.FlightDescriptor

_POLLS = 60
_TIMEOUT = 30.0
_ERASED = "erase"


class Cookies(pyarrow.flight.ClientMiddlewareFactory):
    """Sends back the cookies that the server sets."""

    def __init__(self) -> None:
        super().__init__()
        self.jar: dict[str, str] = {}

    def start_call(self, info: Any) -> pyarrow.flight.ClientMiddleware:
        """Return what reads and writes the headers of one call."""
        return _CookieHeaders(self.jar)


class _CookieHeaders(pyarrow.flight.ClientMiddleware):
    def __init__(self, jar: dict[str, str]) -> None:
        super().__init__()
        self._jar = jar

    def sending_headers(self) -> dict[str, list[str] | list[bytes]]:
        cookies = "; ".join(f"{name}={value}" for name, value in self._jar.items())
        return {"cookie": [cookies]} if cookies else {}

    def received_headers(self, headers: dict[str, list[str] | list[bytes]]) -> None:
        for cookie in headers.get("set-cookie", []):
            name, _, value = str(cookie).split(";", 1)[0].partition("=")
            self._jar[name.strip()] = value.strip()


@dataclass(frozen=True, slots=True)
class Prepared:
    """What CreatePreparedStatement answers."""

    handle: bytes
    schema: pa.Schema
    parameters: pa.Schema
    is_update: bool | None


@dataclass(frozen=True, slots=True)
class Route:
    """How a statement with effects is sent: prepared or not, by GetFlightInfo or by DoPut."""

    is_prepared: bool = False
    by_info: bool = False


_MODES: Mapping[str, tuple[int, int]] = {
    "create": (1, 1),
    "append": (2, 2),
    "replace": (1, 3),
    "create_append": (1, 2),
}
"""Mode → TableNotExistOption and TableExistsOption."""

ROUTES: Mapping[str, Route] = {
    "update": Route(),
    "info": Route(by_info=True),
    "prepared update": Route(is_prepared=True),
    "prepared info": Route(is_prepared=True, by_info=True),
}


class FlightSession:
    """One connection, logged in as the target says; raises RefusedError.

    Statements are sent by `route`. Without one a query is sent prepared and unprepared, and GetSchema is
    asked too.
    """

    def __init__(self, target: Target, headers: Mapping[str, str], route: Route | None = None) -> None:
        self._target = target
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._is_thorough = route is None
        self._route = route or Route()
        self._client = pyarrow.flight.connect(target.uri, middleware=[Cookies()])
        if target.username is not None:
            self._headers.append(self._client.authenticate_basic_token(target.username, target.password))
        self._transaction: bytes | None = None
        self._unread: list[Any] = []

    def close(self) -> None:
        """Close the connection."""
        for reader in self._unread:
            reader.cancel()
        self._client.close()

    def options(self, timeout: float = _TIMEOUT) -> pyarrow.flight.FlightCallOptions:
        """Return the headers and the deadline of a call."""
        return pyarrow.flight.FlightCallOptions(headers=self._headers, timeout=timeout)

    @property
    def _joined(self) -> dict[str, Any]:
        return {} if self._transaction is None else {"transaction_id": self._transaction}

    # Calls of the protocol

    def info(self, descriptor: Descriptor, timeout: float = _TIMEOUT) -> pyarrow.flight.FlightInfo:
        """Call GetFlightInfo."""
        with refusals():
            return self._client.get_flight_info(descriptor, self.options(timeout))

    def fetch(self, info: pyarrow.flight.FlightInfo) -> pa.Table:
        """Fetch the only endpoint of an info, whose schema must be the stream's."""
        assert len(info.endpoints) == 1, f"{len(info.endpoints)} endpoints"
        with refusals():
            table = self._client.do_get(info.endpoints[0].ticket, self.options()).read_all()
        same("FlightInfo and stream", info.schema, table.schema)
        table.validate(full=True)
        return table

    def reader(self, info: pyarrow.flight.FlightInfo, timeout: float = _TIMEOUT) -> Any:
        """Begin to fetch."""
        return self._client.do_get(info.endpoints[0].ticket, self.options(timeout))

    def leave_unread(self, info: pyarrow.flight.FlightInfo) -> None:
        """Read the first rows, and leave the rest until the session is closed."""
        reader = self.reader(info)
        reader.read_chunk()
        self._unread.append(reader)

    def schema(self, descriptor: Descriptor) -> pa.Schema:
        """Call GetSchema."""
        with refusals():
            schema: pa.Schema = self._client.get_schema(descriptor, self.options()).schema
            return schema

    def action(self, name: str, body: bytes) -> list[bytes]:
        """Call DoAction."""
        with refusals():
            results = self._client.do_action(pyarrow.flight.Action(name, body), self.options())
            return [result.body.to_pybytes() for result in results]

    def put(self, descriptor: Descriptor, rows: pa.Table) -> flight_sql.Decoded:
        """Call DoPut and return what the server answers."""
        with refusals():
            writer, reader = self._client.do_put(descriptor, rows.schema, self.options())
            with writer:
                if rows.num_columns:
                    writer.write_table(rows)
                writer.done_writing()
                answer = reader.read()
            return flight_sql.decode(answer.to_pybytes() if answer is not None else b"")

    def poll(self, sql: str) -> Iterator[flight_sql.Decoded]:
        """Call PollFlightInfo, which pyarrow has no method for, until the query is complete."""
        descriptor = flight_sql.descriptor("CommandStatementQuery", query=sql, **self._joined).serialize()
        headers = [(name.decode(), value.decode()) for name, value in self._headers]
        with refusals(), grpc.insecure_channel(self._target.uri.split("://", 1)[1]) as channel:
            call = channel.unary_unary("/arrow.flight.protocol.FlightService/PollFlightInfo")
            for _ in range(_POLLS):
                found = flight_sql.decode(call(descriptor, timeout=_TIMEOUT, metadata=headers))
                yield found
                if 2 not in found:
                    return
                descriptor = found[2][0]
        raise AssertionError("the query never became complete")

    # Statements

    @contextmanager
    def prepared(self, sql: str) -> Iterator[Prepared]:
        """Prepare a statement, and close it at the end."""
        body = flight_sql.packed("ActionCreatePreparedStatementRequest", query=sql, **self._joined)
        (result,) = self.action("CreatePreparedStatement", body)
        found = flight_sql.unpacked(result)
        is_update = bool(found[4][0]) if 4 in found else None
        prepared = Prepared(found[1][0], _schema(found.get(2)), _schema(found.get(3)), is_update)
        try:
            yield prepared
        finally:
            body = flight_sql.packed(
                "ActionClosePreparedStatementRequest", prepared_statement_handle=prepared.handle
            )
            self.action("ClosePreparedStatement", body)

    def ways(self, sql: str, bound: pa.Table | None) -> dict[str, Callable[[], pa.Table]]:
        """Return the ways to run a query; parameters need a prepared statement."""
        prepared: dict[str, Callable[[], pa.Table]] = {"prepared": partial(self._query_prepared, sql, bound)}
        unprepared: dict[str, Callable[[], pa.Table]] = {"unprepared": partial(self._query, sql)}
        if bound is not None or self._route.is_prepared:
            return prepared
        return unprepared | prepared if self._is_thorough else unprepared

    def _query(self, sql: str) -> pa.Table:
        descriptor = flight_sql.descriptor("CommandStatementQuery", query=sql, **self._joined)
        info = self.info(descriptor)
        self._check_schema(info, descriptor)
        return self.fetch(info)

    def _check_schema(self, info: pyarrow.flight.FlightInfo, descriptor: Descriptor) -> None:
        if self._is_thorough:
            same("FlightInfo and GetSchema", info.schema, self.schema(descriptor))

    def _query_prepared(self, sql: str, bound: pa.Table | None) -> pa.Table:
        with self.prepared(sql) as prepared:
            assert not prepared.is_update, "is_update of a query"
            handle = self._bound(prepared.handle, bound)
            descriptor = flight_sql.descriptor(
                "CommandPreparedStatementQuery", prepared_statement_handle=handle
            )
            info = self.info(descriptor)
            if bound is None or bound.schema.types == prepared.parameters.types:
                same("FlightInfo and dataset_schema", info.schema, prepared.schema)
            self._check_schema(info, descriptor)
            return self.fetch(info)

    def _bound(self, handle: bytes, bound: pa.Table | None) -> bytes:
        """Bind parameters; return the handle to go on with."""
        if bound is None:
            return handle
        descriptor = flight_sql.descriptor("CommandPreparedStatementQuery", prepared_statement_handle=handle)
        (answer,) = self.put(descriptor, bound).get(1, [handle])
        return bytes(answer)

    def returning(self, sql: str, bound: pa.Table | None) -> pa.Table:
        """Run a statement that has effects and gives rows, once."""
        if bound is None and not self._route.is_prepared:
            return self.fetch(
                self.info(flight_sql.descriptor("CommandStatementQuery", query=sql, **self._joined))
            )
        with self.prepared(sql) as prepared:
            handle = self._bound(prepared.handle, bound)
            info = self.info(
                flight_sql.descriptor("CommandPreparedStatementQuery", prepared_statement_handle=handle)
            )
            same("FlightInfo and dataset_schema", info.schema, prepared.schema)
            return self.fetch(info)

    def update(self, sql: str, bound: pa.Table | None) -> int:
        """Run a statement without rows by the session's route; return how many rows it changed."""
        if bound is None and not self._route.is_prepared:
            name = "CommandStatementQuery" if self._route.by_info else "CommandStatementUpdate"
            return self._effect(flight_sql.descriptor(name, query=sql, **self._joined), None)
        with self.prepared(sql) as prepared:
            assert prepared.is_update is not False, "is_update of an update"
            assert not len(prepared.schema), "dataset_schema of an update"
            if not self._route.by_info:
                name = "CommandPreparedStatementUpdate"
                return self._effect(
                    flight_sql.descriptor(name, prepared_statement_handle=prepared.handle), bound
                )
            handle = self._bound(prepared.handle, bound)
            descriptor = flight_sql.descriptor(
                "CommandPreparedStatementQuery", prepared_statement_handle=handle
            )
            return self._effect(descriptor, None)

    def _effect(self, descriptor: Descriptor, bound: pa.Table | None) -> int:
        if not self._route.by_info:
            return self._count(descriptor, bound or pa.table({}))
        info = self.info(descriptor)
        assert not info.endpoints, "endpoints of a statement without rows"
        assert info.schema == pa.schema([])
        return int(info.total_records)

    def _count(self, descriptor: Descriptor, rows: pa.Table) -> int:
        return flight_sql.signed(self.put(descriptor, rows).get(1, [0])[0])

    def ingest(self, table: str, mode: str, rows: pa.Table, said: Mapping[str, Any]) -> int:
        """Load rows in bulk; return how many."""
        if_not_exist, if_exists = _MODES[mode]
        options = flight_sql.message("TableDefinitionOptions", if_not_exist=if_not_exist, if_exists=if_exists)
        fields = {"table": table, "table_definition_options": options, **said, **self._joined}
        return self._count(flight_sql.descriptor("CommandStatementIngest", **fields), rows)

    def send(self, call: str, body: bytes) -> None:
        """Make a call with any bytes; `call` is an RPC, or `DoAction` and the type of an action."""
        rpc, _, action = call.partition(" ")
        {
            "GetFlightInfo": lambda: self.info(Descriptor.for_command(body)),
            "GetSchema": lambda: self.schema(Descriptor.for_command(body)),
            "DoGet": lambda: self._read(body),
            "DoPut": lambda: self.put(Descriptor.for_command(body), pa.table({"x": [1]})),
            "DoAction": lambda: self.action(action, body),
        }[rpc]()

    def _read(self, ticket: bytes) -> None:
        with refusals():
            self._client.do_get(pyarrow.flight.Ticket(ticket), self.options()).read_all()

    # Transactions and the session's options

    def begin(self) -> None:
        """Begin a transaction that all following statements belong to."""
        (result,) = self.action("BeginTransaction", flight_sql.packed("ActionBeginTransactionRequest"))
        (self._transaction,) = flight_sql.unpacked(result)[1]

    def commit(self) -> None:
        """Commit it."""
        self._end(1)

    def rollback(self) -> None:
        """Roll it back."""
        self._end(2)

    def _end(self, action: int) -> None:
        assert self._transaction is not None
        transaction, self._transaction = self._transaction, None
        body = flight_sql.packed("ActionEndTransactionRequest", transaction_id=transaction, action=action)
        assert self.action("EndTransaction", body) == []

    def set_options(self, values: Mapping[str, Any]) -> dict[str, int]:
        """Set options of the session, `erase` takes one back; return the errors by name."""
        entries = [
            flight_sql.field(1, name) + flight_sql.field(2, _option(value)) for name, value in values.items()
        ]
        (result,) = self.action(
            "SetSessionOptions", flight_sql.message("SetSessionOptionsRequest", session_options=entries)
        )
        found = map(flight_sql.decode, flight_sql.decode(result).get(1, []))
        return {entry[1][0].decode(): flight_sql.decode(entry[2][0])[1][0] for entry in found}

    def show_options(self) -> dict[str, str]:
        """Return the options of the session that are texts."""
        (result,) = self.action("GetSessionOptions", b"")
        entries = map(flight_sql.decode, flight_sql.decode(result).get(1, []))
        values = {entry[1][0].decode(): flight_sql.decode(entry[2][0]) for entry in entries}
        return {name: value[1][0].decode() for name, value in values.items() if 1 in value}

    def close_session(self) -> int:
        """End the session; return the status that the server answers."""
        (result,) = self.action("CloseSession", b"")
        return int(flight_sql.decode(result)[1][0])


def _option(value: Any) -> bytes:
    """Encode a SessionOptionValue; one without a value takes the option back."""
    if value == _ERASED:
        return b""
    number = next(number for kind, number in _OPTION_TYPES if isinstance(value, kind))
    if number == 3:  # sfixed64
        return bytes([3 << 3 | 1]) + int(value).to_bytes(8, "little", signed=True)
    return flight_sql.field(number, flight_sql.field(1, value) if number == 5 else value)


_OPTION_TYPES = [(str, 1), (bool, 2), (int, 3), (float, 4), (list, 5)]


def _schema(written: list[bytes] | None) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(written[0])) if written and written[0] else pa.schema([])


def same(what: str, one: pa.Schema, other: pa.Schema) -> None:
    """Compare two schemas, nullability included; metadata may differ."""
    assert one.equals(other), f"{what} differ:\n{one}\n---\n{other}"
