"""Handshake, in every form that clients use.

Basic in the header, with or without a request message; Bearer in the header, which is only
checked; a BasicAuth payload, whose sender waits for the answer before it ends its stream; nothing at
all, for those whom their certificate names, and where nobody has to log in.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from flight_server.errors import DeadlineExceededError
from flight_server.flight.interceptors.authentication import Authentication, Peer, decode_payload
from flight_server.flight.wire import headers, messages

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

LONGEST_SECONDS = 20.0
"""How long a client may take for a handshake: who it is with is not known yet.

While it waits for its password to be compared, behind those of others, no time goes by.
"""

_Context: TypeAlias = "ServicerContext[bytes, bytes]"


async def handshake(
    authentication: Authentication, requests: AsyncIterator[bytes], context: _Context, peer: Peer
) -> None:
    """Answer one Handshake: the token goes into the initial metadata, and back as payload for a payload.

    Raises UnauthenticatedError for malformed or invalid credentials, DeadlineExceededError for a client that
    does not come to an end.
    """
    try:
        async with asyncio.timeout(LONGEST_SECONDS) as limit:
            await _answer(_Patient(authentication, limit), requests, context, peer)
    except TimeoutError as error:
        raise DeadlineExceededError(
            f"the handshake was not complete after {LONGEST_SECONDS:g} s; send credentials and end the stream"
        ) from error


@dataclass(frozen=True, slots=True)
class _Patient:
    """Logs in; the time that this takes is not the client's."""

    authentication: Authentication
    limit: asyncio.Timeout

    async def log_in(self, sent: headers.Headers, peer: Peer) -> str:
        self.limit.reschedule(None)
        token = await self.authentication.log_in(sent, peer)
        self.limit.reschedule(asyncio.get_running_loop().time() + LONGEST_SECONDS)
        return token

    async def check(self, sent: headers.Headers, peer: Peer) -> None:
        await self.authentication.caller(sent, peer)


async def _answer(patient: _Patient, requests: AsyncIterator[bytes], context: _Context, peer: Peer) -> None:
    sent = headers.read(context.invocation_metadata())
    if sent.token is not None:
        await patient.check(sent, peer)
        await _drain(requests)
    elif sent.basic is not None:
        await _send_token(context, await patient.log_in(sent, peer))
        await _drain(requests)
    else:
        await _by_payload(patient, requests, context, peer)


async def _by_payload(
    patient: _Patient, requests: AsyncIterator[bytes], context: _Context, peer: Peer
) -> None:
    async for request in requests:
        payload = messages.parse("HandshakeRequest", request).payload
        if payload:
            credentials = headers.Headers(basic=decode_payload(payload))
            token = await patient.log_in(credentials, peer)
            await _send_token(context, token)
            await context.write(messages.encode("HandshakeResponse", payload=token.encode()))
            return await _drain(requests)
    return await _send_token(context, await patient.log_in(headers.Headers(), peer))


async def _send_token(context: _Context, token: str) -> None:
    await context.send_initial_metadata(((headers.AUTHORIZATION, f"Bearer {token}"),))


async def _drain(requests: AsyncIterator[bytes]) -> None:
    """Read to the client's end of stream: ending first would look like a broken handshake."""
    async for request in requests:
        messages.parse("HandshakeRequest", request)
