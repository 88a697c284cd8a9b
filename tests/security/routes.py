"""Attacks by every route that is no SQL: actions, metadata commands, paths, headers, handles of others."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.flight as flight

from tests import flight_sql
from tests.security.raw import Answer, RawClient
from tests.security.world import Held

Attack: TypeAlias = Callable[[RawClient], Answer]

_VECTORS = {"profile": "somebody", "table": "docs"}
_QUERIES = [{"id": "q", "vector": [0.0, 1.0]}]

JSON_ACTIONS: Mapping[str, tuple[dict[str, Any], ...]] = {
    "migrate": ({}, {"dry_run": True}),
    "register": (
        {"bucket": "vault", "dataset": "ledger", "keys": ["canary.csv"]},
        {"bucket": "vault", "dataset": "mine", "keys": ["../canary.csv"]},
        {"bucket": "shared", "dataset": "mine", "keys": ["../vault/canary.csv"]},
        {"bucket": "shared", "dataset": "mine", "keys": ["_objects"]},
        {"bucket": "shared", "dataset": "mine", "keys": ["canary.csv"]},
        {"bucket": "nowhere", "dataset": "mine", "keys": ["x"]},
    ),
    "compact": ({}, {"bucket": "vault"}, {"bucket": "vault", "dataset": "ledger", "sort_by": ["id"]}),
    "sweep": ({"dry_run": True}, {"bucket": "vault", "older_than_s": 0}, {"bucket": "nowhere"}),
    "cancel_query": ({"query_id": "0"},),
    "create_profile": ({"profile": "somebody"}, {"profile": "nobody-yet"}, {"profile": "../x"}),
    "drop_profile": ({"profile": "somebody"}, {"profile": "nobody"}),
    "list_profiles": ({},),
    "activate_profile": ({"profile": "somebody"}, {"profile": "nobody"}, {"profile": "profile:somebody"}),
    "deactivate_profile": ({"profile": "somebody"},),
    "create_vector_index": (_VECTORS, {**_VECTORS, "column": "v", "type": "hnsw_sq"}),
    "drop_vector_index": (_VECTORS,),
    "embed_column": ({**_VECTORS, "text_column": "text"},),
    "put_eval_set": ({**_VECTORS, "name": "e", "queries": _QUERIES},),
    "run_trial": ({**_VECTORS, "eval_set": "e", "index": {"type": "ivf_flat"}},),
    "promote_trial": ({"profile": "somebody", "trial_id": "0"},),
}
"""Action → bodies that are about the hidden tenant."""

_NOWHERE = {"catalog": "lakehouse", "db_schema": "vault", "table": "ledger"}
_CROSSING = {"pk_db_schema": "vault", "pk_table": "ledger", "fk_db_schema": "shared", "fk_table": "child"}

COMMANDS: Mapping[str, tuple[dict[str, Any], ...]] = {
    "CommandStatementQuery": ({"query": "FROM vault.ledger"},),
    "CommandStatementUpdate": ({"query": "DELETE FROM vault.ledger"},),
    "CommandStatementSubstraitPlan": ({"plan": b"x"},),
    "CommandGetCatalogs": ({},),
    "CommandGetDbSchemas": ({}, {"db_schema_filter_pattern": "vault"}, {"db_schema_filter_pattern": "%"}),
    "CommandGetTables": (
        {"include_schema": True},
        {"db_schema_filter_pattern": "vault", "include_schema": True},
        {"table_name_filter_pattern": "ledger", "table_types": ["TABLE", "VIEW", "SYSTEM TABLE"]},
    ),
    "CommandGetTableTypes": ({},),
    "CommandGetPrimaryKeys": (_NOWHERE, {"table": "ledger"}),
    "CommandGetExportedKeys": (_NOWHERE, {"table": "ledger"}),
    "CommandGetImportedKeys": ({"db_schema": "shared", "table": "child"}, {"table": "child"}),
    "CommandGetCrossReference": (_CROSSING, {"pk_table": "ledger", "fk_table": "child"}),
    "CommandGetXdbcTypeInfo": ({},),
    "CommandGetSqlInfo": ({"info": list(range(600))},),
}
"""Metadata commands, and SQL by other methods → their fields."""

_HEADERS = (
    ("x-lakehouse-bucket", "vault"),
    ("x-lakehouse-bucket", "nowhere"),
    ("x-lakehouse-bucket", "../vault"),
    ("x-lakehouse-profile", "somebody"),
    ("x-lakehouse-profile", "nobody"),
)


def by_action() -> Iterator[tuple[str, Attack]]:
    """Yield every action of ours with bodies about what its caller cannot see."""
    for name, bodies in JSON_ACTIONS.items():
        for body in bodies:
            yield f"{name} {body}", _action(name, json.dumps(body).encode())


def by_command() -> Iterator[tuple[str, Attack]]:
    """Yield every command, as a query, as a question for its schema, as a poll and as an upload."""
    for name, given in COMMANDS.items():
        for fields in given:
            sent = flight_sql.descriptor(name, **fields).serialize()
            yield (
                f"{name} {fields}",
                lambda client, sent=sent: client.fetched(client.call("GetFlightInfo", sent)),
            )
            yield f"schema of {name} {fields}", _call("GetSchema", sent)
            yield f"poll {name} {fields}", _call("PollFlightInfo", sent)
            yield f"put {name} {fields}", _call("DoPut", [flight_sql.field(1, sent)])


def by_path() -> Iterator[tuple[str, Attack]]:
    """Yield reads, uploads and searches by path, and lists of what can be read."""
    for parts in (
        ["vault", "ledger"],
        ["ledger"],
        ["vault", "nothing"],
        ["profile:somebody", "docs"],
        ["..", "x"],
    ):
        sent = flight.FlightDescriptor.for_path(*parts).serialize()
        yield f"path {parts}", lambda client, sent=sent: client.fetched(client.call("GetFlightInfo", sent))
        yield f"schema of path {parts}", _call("GetSchema", sent)
        yield f"poll path {parts}", _call("PollFlightInfo", sent)
        yield f"put path {parts}", _call("DoPut", _upload(sent))
        search = flight.FlightDescriptor.for_path(*parts, "search").serialize()
        yield f"search path {parts}", _call("DoExchange", _upload(search))
    for criteria in (b"", b"vault.%", b"%", b"vault.ledger"):
        yield f"list {criteria!r}", _call("ListFlights", flight_sql.field(1, criteria))
    options = flight_sql.message("TableDefinitionOptions", if_not_exist=1, if_exists=2)
    for schema in ("vault", "nowhere", "profile:somebody"):
        fields = {"table_definition_options": options, "table": "ledger", "schema": schema}
        sent = flight_sql.descriptor("CommandStatementIngest", **fields).serialize()
        yield f"ingest into {schema}", _call("DoPut", _upload(sent))


def by_header() -> Iterator[tuple[str, Attack]]:
    """Yield calls of every kind under headers that name what their caller cannot see."""
    for header in _HEADERS:
        yield f"query {header}", lambda client, header=header: client.sql("FROM ledger", [header])
        yield (
            f"search {header}",
            lambda client, header=header: client.sql("FROM vector_search('docs', [0.0, 1.0])", [header]),
        )
        yield f"actions {header}", lambda client, header=header: client.call("ListActions", b"", [header])
        yield f"flights {header}", lambda client, header=header: client.call("ListFlights", b"", [header])
        for option in ("bucket", "profile", "schema"):
            body = _session_option(option, header[1])
            yield f"option {option} {header[1]}", _action("SetSessionOptions", body)
        yield "options", _action("GetSessionOptions", b"")


def by_handle(held: Held) -> Iterator[tuple[str, Attack]]:
    """Yield uses of what another holds: tickets, statements, transactions, queries, and altered ones."""
    handle = {"prepared_statement_handle": held.statement}
    transaction = {"transaction_id": held.transaction}
    endpoint = flight_sql.field(1, held.ticket)
    info = flight_sql.field(3, endpoint)
    query = {"query_id": held.query_id}
    prepared = flight_sql.descriptor("CommandPreparedStatementQuery", **handle).serialize()
    yield "ticket", _call("DoGet", held.ticket)
    yield (
        "renewed ticket",
        _action("RenewFlightEndpoint", flight_sql.message("RenewFlightEndpointRequest", endpoint=endpoint)),
    )
    yield (
        "cancelled info",
        _action("CancelFlightInfo", flight_sql.message("CancelFlightInfoRequest", info=info)),
    )
    yield "cancelled query", _action("CancelQuery", flight_sql.packed("ActionCancelQueryRequest", info=info))
    yield "cancelled id", _action("cancel_query", json.dumps(query).encode())
    yield "poll", _call("PollFlightInfo", held.poll)
    yield "statement", _call("GetFlightInfo", prepared)
    yield "schema of a statement", _call("GetSchema", prepared)
    yield "poll of a statement", _call("PollFlightInfo", prepared)
    yield "parameters of a statement", _call("DoPut", _upload(prepared))
    update = flight_sql.descriptor("CommandPreparedStatementUpdate", **handle).serialize()
    yield "update by a statement", _call("DoPut", _upload(update))
    yield (
        "query in a transaction",
        _call(
            "GetFlightInfo",
            flight_sql.descriptor("CommandStatementQuery", query="SELECT 1", **transaction).serialize(),
        ),
    )
    for action in (1, 2):
        body = flight_sql.packed("ActionEndTransactionRequest", action=action, **transaction)
        yield f"end {action} of a transaction", _action("EndTransaction", body)
    for at in (0, len(held.ticket) // 2, len(held.ticket) - 1):
        altered = held.ticket[:at] + bytes([held.ticket[at] ^ 1]) + held.ticket[at + 1 :]
        yield f"ticket altered at {at}", _call("DoGet", altered)


def _action(name: str, body: bytes) -> Attack:
    return lambda client: client.action(name, body)


def _call(method: str, request: bytes | list[bytes]) -> Attack:
    return lambda client: client.call(method, request)


def _session_option(name: str, value: str) -> bytes:
    entry = flight_sql.field(1, name) + flight_sql.field(2, flight_sql.field(1, value))
    return flight_sql.message("SetSessionOptionsRequest", session_options=entry)


def _upload(descriptor: bytes) -> list[bytes]:
    """Return the messages of an upload of one row with one number."""
    schema = pa.schema([pa.field("id", pa.int64())])
    batch = pa.record_batch([pa.array([7])], schema=schema)
    messages = [schema.serialize(), batch.serialize()]
    found = [_flight_data(message.to_pybytes()) for message in messages]
    return [flight_sql.field(1, descriptor) + found[0], found[1]]


def _flight_data(message: bytes) -> bytes:
    """Turn an encapsulated IPC message into FlightData."""
    size = int.from_bytes(message[4:8], "little")
    return flight_sql.field(2, message[8 : 8 + size]) + flight_sql.field(1000, message[8 + size :])
