"""Clients of the measured servers."""

import pyarrow as pa
import pyarrow.flight as fl

from flight_server.flight.wire import messages


def statement(sql: str) -> fl.FlightDescriptor:
    """Return the descriptor of a Flight SQL query."""
    return fl.FlightDescriptor.for_command(messages.pack("CommandStatementQuery", query=sql))


def plain(sql: str) -> fl.FlightDescriptor:
    """Return the descriptor of a query for `plain_server`, which takes bare SQL."""
    return fl.FlightDescriptor.for_command(sql.encode())


def fetch(client: fl.FlightClient, descriptor: fl.FlightDescriptor) -> pa.Table:
    """Run a query in its two calls, GetFlightInfo and DoGet, and fetch all of its rows."""
    return open_stream(client, descriptor).read_all()


def open_stream(client: fl.FlightClient, descriptor: fl.FlightDescriptor) -> fl.FlightStreamReader:
    """Run a query in its two calls; the caller reads or cancels the rows."""
    info = client.get_flight_info(descriptor)
    return client.do_get(info.endpoints[0].ticket)


def drain(client: fl.FlightClient, descriptor: fl.FlightDescriptor) -> int:
    """Run a query, let go of each batch as it comes, and return the bytes of all."""
    return sum(chunk.data.nbytes for chunk in open_stream(client, descriptor) if chunk.data is not None)
