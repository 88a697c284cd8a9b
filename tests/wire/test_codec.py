"""Our bytes against those of pyarrow.flight."""

import base64

import pyarrow as pa
import pyarrow.flight
import pytest

from flight_server.domain.dataset import IngestMode
from flight_server.errors import (
    InvalidArgumentError,
    LakehouseError,
    UnauthenticatedError,
    UnimplementedError,
)
from flight_server.flight.handlers.ingest import IngestHandlers
from flight_server.flight.wire import commands, headers, messages, tickets

SCHEMA = pa.schema([pa.field("x", pa.int64(), nullable=False)])


def test_pyarrow_reads_our_flight_info():
    descriptor = pyarrow.flight.FlightDescriptor.for_path("a", "b")
    answer = tickets.Answer(SCHEMA.serialize().to_pybytes(), b"ticket")
    info = pyarrow.flight.FlightInfo.deserialize(tickets.encode_info(descriptor.serialize(), answer))
    assert info.descriptor == descriptor
    assert info.schema == SCHEMA
    assert [(e.ticket.ticket, e.locations) for e in info.endpoints] == [(b"ticket", [])]
    assert (info.total_records, info.total_bytes) == (-1, -1)


def test_paths_and_commands_of_pyarrow_are_decoded():
    path = pyarrow.flight.FlightDescriptor.for_path("bucket", "dataset").serialize()
    assert commands.decode(path) == commands.DatasetPath(("bucket", "dataset"))
    packed = messages.pack("CommandStatementQuery", query="select 1", transaction_id=b"t")
    command = pyarrow.flight.FlightDescriptor.for_command(packed).serialize()
    assert commands.decode(command) == commands.StatementQuery("select 1", b"t")


def test_a_recorded_any_is_unpacked():
    url = b"type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery"
    recorded = b"\n" + bytes([len(url)]) + url + b"\x12\x0a\n\x08select 1"
    assert messages.unpack(recorded) == ("CommandStatementQuery", b"\n\x08select 1")


def test_absent_and_false_differ_in_fields_with_presence():
    absent = messages.encode("ActionCreatePreparedStatementResult")
    assert absent == b""
    assert messages.encode("ActionCreatePreparedStatementResult", is_update=False) == b"\x20\x00"


def test_tickets_come_back_as_they_went():
    request = messages.encode("Ticket", ticket=tickets.encode_statement(b"h"))
    assert tickets.decode(request) == tickets.StatementTicket(b"h")
    request = messages.encode("Ticket", ticket=tickets.encode_sql_info(frozenset((8, 1))))
    assert tickets.decode(request) == commands.GetSqlInfo(frozenset((1, 8)))


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", InvalidArgumentError),
        (messages.encode("FlightDescriptor", type=2, cmd=b"\x0a"), InvalidArgumentError),
        (messages.encode("FlightDescriptor", type=2, cmd=b""), InvalidArgumentError),
        (messages.encode("FlightDescriptor", type=7), InvalidArgumentError),
        (
            messages.encode(
                "FlightDescriptor",
                type=2,
                cmd=messages.encode("Any", type_url=f"x/{messages.SQL_PREFIX}CommandGetNothing"),
            ),
            UnimplementedError,
        ),
    ],
)
def test_descriptors_that_ask_for_nothing_served_are_refused(data, error):
    with pytest.raises(error):
        commands.decode(data)


@pytest.mark.parametrize("encoded", ["dXNlcjpw", "dTpwdw==", "dTpwdw"])
def test_basic_credentials_with_and_without_padding(encoded):
    read = headers.read([("authorization", f"Basic {encoded}")])
    username, password = base64.b64decode(encoded + "==").decode().split(":")
    assert read.basic == headers.BasicCredentials(username, password)


@pytest.mark.parametrize("value", ["Basic %%%", "Basic", "Basic dXNlcg", "Digest x", "Basic gICA"])
def test_malformed_credentials_are_unauthenticated(value):
    with pytest.raises(UnauthenticatedError):
        headers.read([("authorization", value)])


@pytest.mark.parametrize(
    ("values", "bucket"),
    [([], None), ([" "], None), ([" a "], "a"), (["a", "a "], "a"), (["", "a"], "a")],
)
def test_bucket_headers(values, bucket):
    assert headers.read([(headers.BUCKET, value) for value in values]).bucket == bucket


@pytest.mark.parametrize("values", [["a", "b"], ["é"], [b"\xff\x00"], ["a\x01"]])
def test_bad_bucket_headers_are_invalid(values):
    with pytest.raises(InvalidArgumentError):
        headers.read([(headers.BUCKET, value) for value in values])


class Recorder:
    """An ingest service that remembers the mode."""

    async def append(self, call, target, sent):
        self.mode = target.mode
        raise InvalidArgumentError("seen")


MODES = {
    (1, 1): IngestMode.CREATE,
    (1, 2): IngestMode.CREATE_APPEND,
    (1, 3): IngestMode.REPLACE,
    (2, 2): IngestMode.APPEND,
}


@pytest.mark.parametrize("options", [(a, b) for a in range(4) for b in range(5)])
def test_every_combination_of_table_definition_options(options):
    recorder = Recorder()
    command = commands.StatementIngest("t", None, None, *options, False, None)
    with pytest.raises(LakehouseError):
        IngestHandlers(recorder, recorder).put(None, command, None).send(None)
    assert getattr(recorder, "mode", None) == MODES.get(options)
