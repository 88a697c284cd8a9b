"""The floor: plain grpc.aio that gives every Flight call an answer made at its start.

Nothing of the server runs here on a call: no decoding, no routing, no engine. What is slower
than this is ours. The process ends when its standard input does.
"""

import asyncio
import functools
import sys
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc
import grpc.aio
import pyarrow as pa

from flight_server.flight.wire import messages
from flight_server.frames.flight_data import BatchFramer, schema_message

_Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"

_ROWS = pa.table({"1": pa.array([1], pa.int32())})
_SCHEMA = _ROWS.schema.serialize().to_pybytes()
_MESSAGES = [
    schema_message(_SCHEMA),
    *(b"".join(pieces) for batch in _ROWS.to_batches() for pieces in BatchFramer(_ROWS.schema).frame(batch)),
]
_HANDLE = bytes(200)
_TICKET = messages.pack("TicketStatementQuery", statement_handle=_HANDLE)
_PREPARED = messages.encode(
    "Result",
    body=messages.pack(
        "ActionCreatePreparedStatementResult",
        prepared_statement_handle=_HANDLE,
        dataset_schema=_SCHEMA,
        parameter_schema=pa.schema([]).serialize().to_pybytes(),
    ),
)


@functools.cache
def _info_of(descriptor: bytes) -> bytes:
    endpoint = messages.create("FlightEndpoint", ticket=messages.create("Ticket", ticket=_TICKET))
    return messages.encode(
        "FlightInfo",
        schema=_SCHEMA,
        flight_descriptor=descriptor,
        endpoint=[endpoint],
        total_records=-1,
        total_bytes=-1,
    )


async def _handshake(requests: AsyncIterator[bytes], context: _Context) -> None:
    await context.send_initial_metadata((("authorization", "Bearer floor"),))
    async for _ in requests:
        pass


async def _info(request: bytes, context: _Context) -> bytes:
    if b"CommandGetSqlInfo" in request:  # asked once, when ADBC connects
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "the floor tells nothing of itself")
    return _info_of(request)


async def _get(_: bytes, context: _Context) -> None:
    for message in _MESSAGES:
        await context.write(message)


async def _action(request: bytes, context: _Context) -> None:
    if b"CreatePreparedStatement" in request:
        await context.write(_PREPARED)


async def _put(requests: AsyncIterator[bytes], context: _Context) -> None:
    async for _ in requests:
        pass
    await context.write(messages.encode("PutResult"))


_METHODS: dict[str, Any] = {
    "Handshake": grpc.stream_stream_rpc_method_handler(_handshake),
    "GetFlightInfo": grpc.unary_unary_rpc_method_handler(_info),
    "DoGet": grpc.unary_stream_rpc_method_handler(_get),
    "DoAction": grpc.unary_stream_rpc_method_handler(_action),
    "DoPut": grpc.stream_stream_rpc_method_handler(_put),
}


async def main() -> None:
    """Serve on a free port of loopback, which is printed, to the end of standard input."""
    server = grpc.aio.server()
    handler = grpc.method_handlers_generic_handler("arrow.flight.protocol.FlightService", _METHODS)
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"grpc://127.0.0.1:{port}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(1)


if __name__ == "__main__":
    asyncio.run(main())
