"""The Flight service on grpc.aio: decode, route, encode, inside the interceptors."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from flight_server.domain.call import CallContext
from flight_server.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    UnimplementedError,
)
from flight_server.flight import context as call_context
from flight_server.flight.credentials import TlsFiles
from flight_server.flight.interceptors.access_log import AccessRecord
from flight_server.flight.interceptors.authentication import Authentication, Caller, Peer
from flight_server.flight.interceptors.handshake import handshake
from flight_server.flight.patience import Patience, PromptRequests
from flight_server.flight.routes import Messages, Routes
from flight_server.flight.wire import actions, commands, headers, messages, status, tickets
from flight_server.frames import flight_data
from flight_server.services.live_calls import LiveCalls
from flight_server.services.profiles import ProfileService
from flight_server.settings.tls import TlsSettings

_UPLOAD, _EXCHANGE = "DoPut", "DoExchange"
_SERVICE = "arrow.flight.protocol.FlightService"
_Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
_Method: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"
_Unary: TypeAlias = Callable[[CallContext, AccessRecord, bytes], Awaitable[bytes]]
_Stream: TypeAlias = Callable[[CallContext, AccessRecord, Any], Messages]
_Handler = TypeVar("_Handler")

_REFUSED: Mapping[str, str] = {
    "CreatePreparedSubstraitPlan": "Substrait plans are not served: prepare SQL with CreatePreparedStatement",
    "BeginSavepoint": "savepoints are not served: a transaction is committed or rolled back as a whole",
    "EndSavepoint": "savepoints are not served: a transaction is committed or rolled back as a whole",
}
"""Actions of Flight SQL that are not served → why."""

_KEEPALIVE_OPTIONS = (
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.server_handshake_timeout_ms", 10_000),
)


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Where to listen (port 0: any free one) and the transport's limits, in bytes and seconds."""

    host: str = "127.0.0.1"
    port: int = 0
    max_incoming_bytes: int = 64 * 1024 * 1024
    max_header_bytes: int = 16 * 1024
    tls: TlsSettings = field(default_factory=TlsSettings)
    reuse_port: bool = False
    drain_seconds: float = 30.0
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call, and what runs now; with certificates, those of clients name them."""

    authentication: Authentication
    calls: LiveCalls
    has_certificates: bool = False


class FlightServer:
    """Listens, and answers until it is stopped."""

    def __init__(
        self, routes: Routes, access: Access, profiles: ProfileService, options: ServerOptions
    ) -> None:
        """Prepare the service; nothing listens before `start`."""
        calls = _Calls(access, profiles, options.patience)
        service = _Service(routes)
        self._options = options
        self._method_handlers = {
            "Handshake": grpc.stream_stream_rpc_method_handler(calls.handshake),
            "GetFlightInfo": calls.unary("GetFlightInfo", service.get_flight_info),
            "PollFlightInfo": calls.unary("PollFlightInfo", service.poll_flight_info),
            "GetSchema": calls.unary("GetSchema", service.get_schema),
            "DoGet": calls.streaming("DoGet", service.do_get),
            "DoAction": calls.streaming("DoAction", service.do_action),
            "ListFlights": calls.streaming("ListFlights", service.list_flights),
            "ListActions": calls.streaming("ListActions", service.list_actions),
            _UPLOAD: calls.exchanging(_UPLOAD, service.do_put),
            _EXCHANGE: calls.exchanging(_EXCHANGE, service.do_exchange),
        }
        self._health = cast("Any", health).aio.HealthServicer()  # the stubs lack its asyncio half
        self._server: grpc.aio.Server | None = None

    async def start(self) -> int:
        """Listen and return the port; raises FailedPreconditionError when the address is taken."""
        options = self._options
        server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", options.max_incoming_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_metadata_size", options.max_header_bytes),
                ("grpc.absolute_max_metadata_size", options.max_header_bytes),
                ("grpc.so_reuseport", int(options.reuse_port)),
                *_KEEPALIVE_OPTIONS,
            )
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE, self._method_handlers),)
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        address = f"[{options.host}]" if ":" in options.host else options.host
        try:
            port = self._add_port(server, f"{address}:{options.port}")
        except RuntimeError as error:
            raise FailedPreconditionError(
                f"cannot listen on {address}:{options.port}; is the port in use, the host one of ours?"
            ) from error
        await server.start()
        for service in ("", _SERVICE):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        self._server = server
        return port

    def _add_port(self, server: grpc.aio.Server, address: str) -> int:
        if not self._options.tls.is_on:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, TlsFiles(self._options.tls).credentials())

    async def stop(self) -> None:
        """Refuse new calls (UNAVAILABLE), let those in flight end, cancel the rest after the drain time."""
        if self._server is not None:
            await self._health.enter_graceful_shutdown()
            await self._server.stop(self._options.drain_seconds)
            self._server = None


class _Calls:
    """Runs behaviours inside the interceptors: headers, authentication, errors, access log."""

    def __init__(self, access: Access, profiles: ProfileService, patience: Patience) -> None:
        self._access = access
        self._profiles = profiles
        self._patience = patience

    def unary(self, method: str, behaviour: _Unary) -> _Method:
        async def run(request: bytes, context: _Context) -> bytes:
            async with _watched(method, context) as record, self._call(record, context) as call:
                return await behaviour(call, record, request)

        return grpc.unary_unary_rpc_method_handler(run)

    def streaming(self, method: str, behaviour: _Stream) -> _Method:
        return grpc.unary_stream_rpc_method_handler(self._writer(method, behaviour))

    def exchanging(self, method: str, behaviour: _Stream) -> _Method:
        def prompt(call: CallContext, record: AccessRecord, requests: Messages) -> Messages:
            return behaviour(call, record, PromptRequests(requests, self._patience.writing))

        return grpc.stream_stream_rpc_method_handler(self._writer(method, prompt))

    def _writer(self, method: str, behaviour: _Stream) -> Callable[[Any, _Context], Awaitable[None]]:
        async def run(request: Any, context: _Context) -> None:
            async with _watched(method, context) as record, self._call(record, context) as call:
                answer = behaviour(call, record, request)
                try:
                    async for message in answer:
                        await self._patience.send(context, message)
                        record.bytes += len(message)
                finally:
                    if isinstance(answer, AsyncGenerator):
                        await answer.aclose()

        return run

    async def handshake(self, requests: AsyncIterator[bytes], context: _Context) -> None:
        async with _watched("Handshake", context):
            await handshake(self._access.authentication, requests, context, self._peer(context))

    def _peer(self, context: _Context) -> Peer:
        address = context.peer()
        return (
            Peer(address, partial(_certificate, context)) if self._access.has_certificates else Peer(address)
        )

    @asynccontextmanager
    async def _call(self, record: AccessRecord, context: _Context) -> AsyncIterator[CallContext]:
        sent = headers.read(context.invocation_metadata())
        caller = await self._access.authentication.caller(sent, self._peer(context))
        record.principal = caller.identity.name
        sessions = self._access.authentication.sessions
        with self._access.calls.running(caller.identity, caller.login, caller.session.id):
            sessions.enter(caller.session)
            try:
                yield await self._begin(record, context, sent, caller)
            finally:
                sessions.leave(caller.session)

    async def _begin(
        self, record: AccessRecord, context: _Context, sent: headers.Headers, caller: Caller
    ) -> CallContext:
        """Return the context of a call, and tell its client what it has to know."""
        shown: list[tuple[str, str]] = []
        self._profiles.refresh()
        registry = self._profiles.registry
        call = call_context.build(sent, caller, registry, partial(_has_left, context, shown))
        if call.profile is not None:
            self._profiles.select(caller.identity, call.profile)
        record.bucket = call.bucket
        shown.append((headers.BUCKET, call.bucket))
        context.set_trailing_metadata(tuple(shown))
        if caller.session.is_new:
            shown.append((headers.SET_COOKIE, headers.encode_cookie(caller.session.key)))
        if (call.named_bucket is not None or caller.session.is_new) and record.method != _UPLOAD:
            # an operation of its own, 0.15-0.2 ms: only for those who asked, or need their cookie
            await context.send_initial_metadata(tuple(shown))
            caller.session.is_new = False
        return call


def _certificate(context: _Context) -> bytes | None:
    """Return the PEM of the certificate that the client showed."""
    return next(iter(context.auth_context().get("x509_pem_cert", ())), None)


async def _has_left(context: _Context, metadata: Sequence[tuple[str, str]]) -> bool:
    """Tell whether the client has gone away, by an operation that is answered after all that it did.

    A client that dies first looks as if it had sent everything: the news of its end comes later, on
    a busy machine much later, and nobody must commit in between.
    """
    try:
        await context.send_initial_metadata(tuple(metadata))
    except (grpc.aio.BaseError, RuntimeError):
        return True
    await asyncio.sleep(0)
    return context.cancelled()


@asynccontextmanager
async def _watched(method: str, context: _Context) -> AsyncIterator[AccessRecord]:
    """Translate what is raised inside, and write the access line."""
    record = AccessRecord(method)
    try:
        yield record
    except asyncio.CancelledError:
        record.status = "CANCELLED"
        raise
    except Exception as error:
        found = status.from_error(error)
        record.status, record.reason = found.code.name, found.message
        await context.abort(found.code, found.message)
    finally:
        record.write()


class _Service:
    """Decodes each request, routes it, encodes the answer."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._action_types = [
            messages.encode("ActionType", type=name, description=route.description)
            for name, route in routes.actions.items()
        ]

    async def get_flight_info(self, call: CallContext, record: AccessRecord, request: bytes) -> bytes:
        command = commands.decode(request)
        handler = _routed(self._routes.infos, command, record)
        return tickets.encode_info(request, await handler(call, command))

    async def poll_flight_info(self, call: CallContext, record: AccessRecord, request: bytes) -> bytes:
        command = commands.decode(request)
        if type(command) in self._routes.polls:
            polled = await _routed(self._routes.polls, command, record)(call, command)
        else:  # what is answered at once
            polled = tickets.Polled(await _routed(self._routes.infos, command, record)(call, command))
        return tickets.encode_poll(request, polled)

    async def get_schema(self, call: CallContext, record: AccessRecord, request: bytes) -> bytes:
        command = commands.decode(request)
        handler = _routed(self._routes.schemas, command, record)
        return messages.encode("SchemaResult", schema=await handler(call, command))

    def do_get(self, call: CallContext, record: AccessRecord, request: bytes) -> Messages:
        ticket = tickets.decode(request)
        return _routed(self._routes.streams, ticket, record)(call, ticket)

    async def do_put(self, call: CallContext, record: AccessRecord, requests: Messages) -> Messages:
        async with aclosing(_counted(requests, record)) as sent:
            first = await anext(sent, b"")
            command = _described(_UPLOAD, first)
            handler = _routed(self._routes.puts, command, record)
            async with aclosing(_preceded(first, sent)) as upload:
                metadata = await handler(call, command, upload)
        yield messages.encode("PutResult", app_metadata=metadata)

    async def do_exchange(self, call: CallContext, record: AccessRecord, requests: Messages) -> Messages:
        async with aclosing(_counted(requests, record)) as sent:
            first = await anext(sent, b"")
            command = _described(_EXCHANGE, first)
            handler = _routed(self._routes.exchanges, command, record)
            async with aclosing(_preceded(first, sent)) as messages:
                async for answer in handler(call, command, messages):
                    yield answer

    async def do_action(self, call: CallContext, record: AccessRecord, request: bytes) -> Messages:
        name, body = actions.decode_action(request)
        route = self._routes.actions.get(name)
        if route is None:
            raise UnimplementedError(_REFUSED.get(name) or self._unknown(name))
        record.command, record.is_audited = name, route.is_audited
        answer = route.handler(call, body)
        if isinstance(answer, AsyncGenerator):
            async with aclosing(answer) as results:
                async for result in results:
                    yield messages.encode("Result", body=result)
        else:
            for result in await answer:
                yield messages.encode("Result", body=result)

    def _unknown(self, name: str) -> str:
        return f"no action {name[:100]!r}; the actions here are: {', '.join(self._routes.actions)}"

    async def list_flights(self, call: CallContext, _: AccessRecord, request: bytes) -> Messages:
        expression = messages.parse("Criteria", request).expression
        try:
            criteria: str = expression.decode()
        except UnicodeDecodeError as error:
            raise InvalidArgumentError(
                "the criteria must be UTF-8 text: a LIKE pattern on 'bucket.dataset', such as 'testing.%'"
            ) from error
        async for path, answer in self._routes.flights(call, criteria):
            yield tickets.encode_info(tickets.encode_path(path), answer)

    async def list_actions(self, _: CallContext, __: AccessRecord, ___: bytes) -> Messages:
        for action_type in self._action_types:
            yield action_type


def _routed(table: Mapping[type, _Handler], asked: object, record: AccessRecord) -> _Handler:
    record.command = type(asked).__name__
    handler = table.get(type(asked))
    if handler is None:
        raise UnimplementedError(f"{record.method} does not serve {record.command}")
    return handler


def _described(method: str, first: bytes) -> object:
    """Return what a stream of messages is for. Raises InvalidArgumentError when the first does not say."""
    descriptor = bytes(flight_data.parse(first).descriptor)
    if not descriptor:
        raise InvalidArgumentError(
            f"{method}'s first message must carry a flight descriptor; some drivers send nothing at all "
            "for a table without a single batch: give it one batch without rows"
        )
    return commands.decode(descriptor)


async def _counted(requests: Messages, record: AccessRecord) -> AsyncGenerator[bytes, None]:
    async for message in requests:
        record.bytes += len(message)
        yield message


async def _preceded(first: bytes, rest: Messages) -> AsyncGenerator[bytes, None]:
    yield first
    async for message in rest:
        yield message
