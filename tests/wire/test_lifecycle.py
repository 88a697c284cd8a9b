"""Start and stop."""

import asyncio

import grpc
import grpc.aio
import pytest

from flight_server.errors import FailedPreconditionError
from flight_server.flight.interceptors.authentication import Authentication
from flight_server.flight.server import FlightServer, ServerOptions
from flight_server.flight.wire import messages

SERVICE = "/arrow.flight.protocol.FlightService"
SLEEP = messages.encode("FlightDescriptor", type=2, cmd=messages.pack("CommandStatementQuery", query="sleep"))


async def ask(port: int, request: bytes) -> grpc.StatusCode:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            await channel.unary_unary(f"{SERVICE}/GetFlightInfo")(request, timeout=10)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def test_stopping_refuses_new_calls_and_ends_old_ones_after_the_drain(build_server):
    async def run() -> None:
        server, parts = build_server(ServerOptions(drain_seconds=0.2))
        port = await server.start()
        sleeping = asyncio.create_task(ask(port, SLEEP))
        while not parts.query.calls:
            await asyncio.sleep(0.01)
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0.05)
        assert await ask(port, SLEEP) is grpc.StatusCode.UNAVAILABLE
        await stopping
        assert await sleeping in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        assert parts.query.ended.is_set()

    asyncio.run(run())


def test_a_port_in_use_is_said_so(build_server):
    async def run() -> None:
        first: FlightServer = build_server(ServerOptions())[0]
        port = await first.start()
        try:
            with pytest.raises(FailedPreconditionError, match=str(port)):
                await build_server(ServerOptions(port=port))[0].start()
        finally:
            await first.stop()

    asyncio.run(run())


def test_too_large_messages_are_refused(build_server):
    async def run() -> grpc.StatusCode:
        server, _ = build_server(ServerOptions(max_incoming_bytes=1_000))
        port = await server.start()
        try:
            return await ask(port, bytes(2_000))
        finally:
            await server.stop()

    assert asyncio.run(run()) is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_handshake_that_does_not_end_is_ended(build_server, monkeypatch):
    monkeypatch.setattr("flight_server.flight.interceptors.handshake.LONGEST_SECONDS", 0.2)

    async def run() -> grpc.StatusCode:
        server, _ = build_server(ServerOptions(drain_seconds=0))
        port = await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.stream_stream(f"{SERVICE}/Handshake")(timeout=10)
            await call.write(b"")
            code = await call.code()
        await server.stop()
        return code

    assert asyncio.run(run()) is grpc.StatusCode.DEADLINE_EXCEEDED


def test_the_time_that_a_login_waits_for_others_is_not_the_clients(build_server, monkeypatch):
    monkeypatch.setattr("flight_server.flight.interceptors.handshake.LONGEST_SECONDS", 0.1)

    async def log_in(*_: object) -> str:
        await asyncio.sleep(0.3)
        return "token"

    monkeypatch.setattr(Authentication, "log_in", log_in)

    async def run() -> grpc.StatusCode:
        server, _ = build_server(ServerOptions(drain_seconds=0))
        port = await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.stream_stream(f"{SERVICE}/Handshake")(timeout=10)
            await call.done_writing()
            code = await call.code()
        await server.stop()
        return code

    assert asyncio.run(run()) is grpc.StatusCode.OK
