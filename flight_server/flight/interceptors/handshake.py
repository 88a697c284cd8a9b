"""Handshake, in every form that clients use.

Basic in the header, with or without a request message; Bearer in the header, which is only
checked; a BasicAuth payload, whose sender waits for the answer before it ends its stream.
"""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, TypeAlias

from flight_server.flight.interceptors.authentication import Authentication, decode_payload
from flight_server.flight.wire import headers, messages

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

_Context: TypeAlias = "ServicerContext[bytes, bytes]"


async def handshake(
    authentication: Authentication, requests: AsyncIterator[bytes], context: _Context
) -> None:
    """Answer one Handshake: the token goes into the initial metadata, and back as payload for a payload.

    Raises UnauthenticatedError for malformed or invalid credentials.
    """
    sent = headers.read(context.invocation_metadata())
    if sent.token is not None:
        authentication.caller(sent, context.peer())
        await _drain(requests)
    elif sent.basic is not None:
        await _send_token(context, authentication.log_in(sent.basic))
        await _drain(requests)
    else:
        await _by_payload(authentication, requests, context)


async def _by_payload(
    authentication: Authentication, requests: AsyncIterator[bytes], context: _Context
) -> None:
    async for request in requests:
        payload = messages.parse("HandshakeRequest", request).payload
        if payload:
            token = authentication.log_in(decode_payload(payload))
            await _send_token(context, token)
            await context.write(messages.encode("HandshakeResponse", payload=token.encode()))
            return await _drain(requests)
    return await _send_token(context, authentication.log_in(None))


async def _send_token(context: _Context, token: str) -> None:
    await context.send_initial_metadata(((headers.AUTHORIZATION, f"Bearer {token}"),))


async def _drain(requests: AsyncIterator[bytes]) -> None:
    """Read to the client's end of stream: ending first would look like a broken handshake."""
    async for request in requests:
        messages.parse("HandshakeRequest", request)
