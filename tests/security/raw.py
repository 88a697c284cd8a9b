"""A Flight SQL client that keeps every byte that it gets: answers, headers before and behind them, errors."""

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import pyarrow as pa

from tests import flight_sql

_SERVICE = "/arrow.flight.protocol.FlightService/"
_UNARY = frozenset({"GetFlightInfo", "GetSchema", "PollFlightInfo"})
_EXCHANGING = frozenset({"DoPut", "DoExchange", "Handshake"})

Header = tuple[str, str]


@dataclass(slots=True)
class Answer:
    """What came back of a call: its status, and everything that it sent."""

    code: grpc.StatusCode
    details: str
    messages: list[bytes] = field(default_factory=list)
    metadata: list[Any] = field(default_factory=list)

    @property
    def is_ok(self) -> bool:
        """Whether the call succeeded."""
        return self.code is grpc.StatusCode.OK

    def received(self) -> bytes:
        """Return all bytes received, in lower case."""
        said = repr([(key, value) for key, value in self.metadata]).encode()
        return b"\n".join([*self.messages, self.details.encode(), said]).lower()


class RawClient:
    """Calls a server as one user, or as nobody; close it at the end."""

    def __init__(self, address: str, user: str | None, password: str = "", cookie: str | None = None) -> None:
        self.channel = grpc.insecure_channel(address, (("grpc.max_receive_message_length", -1),))
        self._headers: list[Header] = []
        if user is not None:
            encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
            self._headers = [("authorization", f"Basic {encoded}")]
        if cookie is not None:
            self._headers.append(("cookie", cookie))
        self._methods: dict[str, Any] = {}

    def close(self) -> None:
        """Close the connection."""
        self.channel.close()

    def call(
        self,
        method: str,
        request: bytes | Sequence[bytes],
        headers: Iterable[Header] = (),
        timeout: float = 20,
    ) -> Answer:
        """Call a method; `request` is a list of messages where the client streams."""
        sent = [*self._headers, *headers]
        call: Any = None
        answer = Answer(grpc.StatusCode.OK, "")
        try:
            if method in _UNARY:
                message, call = self._method(method).with_call(request, timeout=timeout, metadata=sent)
                answer.messages.append(message)
            else:
                streamed = iter(request) if method in _EXCHANGING else request
                call = self._method(method)(streamed, timeout=timeout, metadata=sent)
                answer.messages += call
        except grpc.RpcError as error:
            call = error
            answer.code, answer.details = call.code(), call.details() or ""
        answer.metadata = [*(call.initial_metadata() or ()), *(call.trailing_metadata() or ())]
        return answer

    def _method(self, name: str) -> Any:
        if name not in self._methods:
            channel, path = self.channel, _SERVICE + name
            if name in _UNARY:
                self._methods[name] = channel.unary_unary(path)
            elif name in _EXCHANGING:
                self._methods[name] = channel.stream_stream(path)
            else:
                self._methods[name] = channel.unary_stream(path)
        return self._methods[name]

    def sql(self, text: str, headers: Iterable[Header] = (), timeout: float = 20) -> Answer:
        """Run a query and fetch its rows; what both calls returned is in one answer."""
        descriptor = flight_sql.statement_query(text).serialize()
        return self.fetched(self.call("GetFlightInfo", descriptor, headers, timeout), headers, timeout)

    def fetched(self, planned: Answer, headers: Iterable[Header] = (), timeout: float = 20) -> Answer:
        """Fetch what a FlightInfo has tickets for, into the same answer."""
        if not planned.is_ok:
            return planned
        for endpoint in flight_sql.decode(planned.messages[0]).get(3, []):
            (ticket,) = flight_sql.decode(endpoint)[1]
            answer = self.call("DoGet", ticket, headers, timeout)
            planned.messages += answer.messages
            planned.metadata += answer.metadata
            planned.code, planned.details = answer.code, answer.details
        return planned

    def command(self, name: str, /, **fields: flight_sql.Value) -> Answer:
        """Run a metadata command and fetch its rows."""
        return self.fetched(self.call("GetFlightInfo", flight_sql.descriptor(name, **fields).serialize()))

    def action(self, name: str, body: bytes, headers: Iterable[Header] = (), timeout: float = 20) -> Answer:
        """Run an action."""
        return self.call("DoAction", flight_sql.field(1, name) + flight_sql.field(2, body), headers, timeout)


def rows(answer: Answer) -> list[dict[str, Any]]:
    """Return the rows of an answer to `sql` or `command`, which must have succeeded."""
    assert answer.is_ok, (answer.code, answer.details)
    return list(_rows(answer.messages[1:]))


def _rows(messages: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the rows of FlightData messages: put together again as an Arrow stream."""
    if not messages:
        return
    stream = pa.BufferOutputStream()
    for message in messages:
        found = flight_sql.decode(message)
        header, body = found[2][0], found.get(1000, [b""])[0]
        padded = header + b"\0" * (-len(header) % 8)
        stream.write(b"\xff\xff\xff\xff" + len(padded).to_bytes(4, "little") + padded + body)
    yield from pa.ipc.open_stream(stream.getvalue()).read_all().to_pylist()
