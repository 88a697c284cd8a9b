"""Who sees what: tenants of one server, by every surface that it has."""

import random
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from flight_server.auth.changes import UserChanges
from flight_server.auth.users import UsersFile
from tests import flight_sql
from tests.security import corpus, routes
from tests.security.raw import Answer, RawClient, rows
from tests.security.world import ANONYMOUS, CALLERS, MARK, OWNER, World, foreign, password, world

pytestmark = pytest.mark.slow

POLITE = {
    grpc.StatusCode.OK,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
}
SEED = random.randrange(1 << 32)
SLICE = 25
SESSION_STATEMENTS = 50
"""So many in a session: after a BEGIN that fails there is nothing more to see there."""


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("tenants")) as made:
        yield made


def values(tenants: World, user: str, sql: str) -> list[Any]:
    """Return the values of the one column of a query."""
    return [value for row in rows(tenants.client(user).sql(sql)) for value in row.values()]


def denied(answer: Answer) -> str:
    """Return why an answer says that its caller may see something and not change it."""
    assert answer.code is grpc.StatusCode.PERMISSION_DENIED, (answer.code, answer.details)
    return answer.details


def test_the_canaries_can_be_seen_by_their_owner(tenants: World) -> None:
    owner = tenants.client(OWNER)
    for sql in ("FROM vault.ledger", "FROM duckdb_tables()", "FROM sys.queries", "SHOW ALL TABLES"):
        answer = owner.sql(sql)
        assert answer.is_ok, answer.details
        assert foreign(answer), sql
    assert foreign(owner.sql("FROM vault.nothing")), "near misses are in the error"
    assert foreign(owner.command("CommandGetTables", include_schema=True))
    assert foreign(tenants.connect(OWNER).call("DoGet", tenants.held.ticket))


@pytest.mark.parametrize(
    ("user", "seen"),
    [("reader", ["shared"]), ("writer", ["shared"]), ("keeper", ["shared"]), ("selfer", ["profile:selfer"])],
)
def test_only_readable_buckets_are_there(tenants: World, user: str, seen: list[str]) -> None:
    client = tenants.client(user)
    assert values(tenants, user, "SELECT name FROM sys.buckets") == seen
    assert values(tenants, user, "SELECT DISTINCT bucket FROM sys.datasets") == seen
    assert values(tenants, user, "SELECT DISTINCT bucket FROM sys.object_refs") == seen
    spaces = "SELECT schema_name FROM information_schema.schemata WHERE catalog_name = 'lakehouse' ORDER BY 1"
    assert set(values(tenants, user, spaces)) - {"main", "information_schema", "pg_catalog"} == {*seen, "sys"}
    schemas = rows(client.command("CommandGetDbSchemas"))
    assert {row["db_schema_name"] for row in schemas} == {*seen, "sys"}
    tables = rows(client.command("CommandGetTables", include_schema=True))
    assert {row["db_schema_name"] for row in tables} == {*seen, "sys"}
    listed = client.call("ListFlights", b"")
    check(user, "ListFlights", listed)
    assert len(listed.messages) == len(tables) - _system(tables)
    profiles = client.action("list_profiles", b"{}")
    assert len(profiles.messages) == len([name for name in seen if name.startswith("profile:")])


def _system(tables: list[dict[str, Any]]) -> int:
    return sum(row["table_type"] == "SYSTEM TABLE" for row in tables)


def test_what_is_hidden_is_as_what_is_not_there(tenants: World) -> None:
    client = tenants.client("reader")
    for header, hidden, nothing in (
        ("x-lakehouse-bucket", "vault", "nowhere"),
        ("x-lakehouse-bucket", "profile:somebody", "profile:nobody"),
        ("x-lakehouse-profile", "somebody", "nobody"),
    ):
        there, gone = (client.sql("SELECT 1", [(header, name)]) for name in (hidden, nothing))
        assert there.code is gone.code is grpc.StatusCode.NOT_FOUND
        assert there.details.replace(hidden, "?") == gone.details.replace(nothing, "?")
    for statement in (
        "FROM {}.ledger",
        "SET bucket = '{}'",
        "USE {}",
        "DROP TABLE {}.ledger",
        "SHOW TABLES FROM {}",
    ):
        there, gone = (client.sql(statement.format(name)) for name in ("vault", "nowhere"))
        assert (there.code, there.details.replace("vault", "nowhere")) == (gone.code, gone.details)
        assert there.code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)


def test_names_that_others_have_taken_cannot_be_taken(tenants: World) -> None:
    writer = tenants.client("writer")
    shared = [("x-lakehouse-bucket", "shared")]
    for name in ("vault", "VAULT", "vault_schema"):
        refused = writer.sql(f"CREATE SCHEMA {name}", shared)
        assert refused.code is grpc.StatusCode.ALREADY_EXISTS
        assert refused.details == f"schema {name.lower()} already exists: choose another name"
    assert writer.sql('CREATE SCHEMA "profile:later"', shared).code is grpc.StatusCode.INVALID_ARGUMENT
    assert values(tenants, OWNER, "SELECT bucket FROM sys.datasets WHERE namespace = 'vault_schema'") == [
        "vault"
    ]


def test_keys_and_views_tell_nothing_of_what_they_refer_to(tenants: World) -> None:
    reader = tenants.client("reader")
    imported = {"db_schema": "shared", "table": "child"}
    assert rows(reader.command("CommandGetImportedKeys", **imported)) == []
    assert len(rows(tenants.client("boss").command("CommandGetImportedKeys", **imported))) == 1
    constraints = "SELECT constraint_text FROM duckdb_constraints() WHERE table_name = 'child'"
    assert values(tenants, "reader", constraints) == []
    assert len(values(tenants, "boss", constraints)) == 1
    assert reader.sql("FROM shared.peek").code is grpc.StatusCode.NOT_FOUND
    assert reader.sql("EXPLAIN FROM shared.peek").code is grpc.StatusCode.NOT_FOUND


def test_commits_queries_and_sessions_are_ones_own(tenants: World) -> None:
    assert values(tenants, "selfer", "SELECT DISTINCT principal FROM sys.commits") == ["selfer"]
    summaries = values(tenants, "reader", "SELECT summary FROM sys.commits")
    assert summaries
    assert all("shared." in summary for summary in summaries)
    for user in CALLERS:
        for table in ("sys.queries", "sys.sessions"):
            assert values(tenants, user, f"SELECT DISTINCT principal FROM {table}") == [user]
    assert MARK in str(values(tenants, "boss", "SELECT DISTINCT principal FROM sys.queries"))


def test_words_of_commits_name_nothing_that_is_hidden(tenants: World) -> None:
    boss, vault = tenants.client("boss"), [("x-lakehouse-bucket", "vault")]
    for hidden in (
        (f"CREATE SCHEMA {MARK}_schema", f"CREATE TABLE {MARK}_schema.t (i INTEGER)"),
        (f"DROP TABLE {MARK}_schema.t", f"DROP SCHEMA {MARK}_schema"),
        (f"CREATE TABLE vault.{MARK}_brief (i INTEGER)", f"DROP TABLE vault.{MARK}_brief"),
    ):
        for sql in ("BEGIN", *hidden, "INSERT INTO shared.people VALUES (5, 'eve')", "COMMIT"):
            assert boss.sql(sql, vault).is_ok, sql
        check("reader", "sys.commits", tenants.client("reader").sql("FROM sys.commits"))
    made = f"CREATE SCHEMA {MARK}_later"
    for sql in ("BEGIN", made, f"INSERT INTO vault.{MARK}_table VALUES (2)", "COMMIT"):
        assert boss.sql(sql, vault).is_ok, sql
    (words,) = values(tenants, OWNER, "SELECT arg_max(summary, id) FROM sys.commits")
    assert words == f"transaction: {MARK}_later, {MARK}_table"


def test_nobody_takes_all_places_of_polls(tenants: World) -> None:
    described = flight_sql.statement_query("SELECT 1").serialize()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: poll_often(tenants, described), range(8)))
    assert tenants.client("selfer").call("PollFlightInfo", described).code is (
        grpc.StatusCode.RESOURCE_EXHAUSTED
    )
    polled = tenants.client("reader").call("PollFlightInfo", described)
    assert polled.is_ok, polled.details


def poll_often(tenants: World, described: bytes) -> None:
    client = tenants.connect("selfer")
    while client.call("PollFlightInfo", described).is_ok:
        pass
    client.close()


def test_reading_is_not_writing_and_writing_is_not_ruling(tenants: World) -> None:
    reader, writer, keeper = (tenants.client(name) for name in ("reader", "writer", "keeper"))
    for sql in (
        "INSERT INTO shared.people VALUES (9, 'x')",
        "UPDATE shared.people SET name = 'x'",
        "CREATE TABLE shared.mine (i INTEGER)",
        "DROP TABLE shared.people",
        "COMMENT ON TABLE shared.people IS 'x'",
    ):
        assert "bucket shared may be read by you but not written" in denied(reader.sql(sql))
    sweep = b'{"bucket": "shared", "dry_run": true}'
    compact = b'{"bucket": "shared", "dataset": "people"}'
    denied(reader.action("compact", compact))
    assert writer.action("compact", compact).is_ok
    denied(writer.action("sweep", sweep))
    assert keeper.action("sweep", sweep).is_ok
    denied(keeper.action("sweep", b"{}"))
    for client in (reader, writer, keeper):
        denied(client.action("migrate", b"{}"))
        denied(client.action("create_profile", b'{"profile": "another"}'))
    assert tenants.client("selfer").action("create_profile", b'{"profile": "selfer"}').code is (
        grpc.StatusCode.ALREADY_EXISTS
    )


def test_texts_of_users_are_short(tenants: World) -> None:
    refused = tenants.client("reader").sql(f"SELECT '{'x' * 300_000}'")
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "at most 262144 are read: send rows by a bulk ingest" in refused.details


def test_grants_that_are_taken_count_for_what_was_begun_before(tenants: World) -> None:
    leaver = tenants.client("leaver")
    shared = [("x-lakehouse-bucket", "shared")]
    begun = leaver.action("BeginTransaction", flight_sql.packed("ActionBeginTransactionRequest"), shared)
    (transaction,) = flight_sql.unpacked(flight_sql.decode(begun.messages[0])[1][0])[1]
    insert = {"query": "INSERT INTO shared.people VALUES (77, 'late')", "transaction_id": transaction}
    assert leaver.call(
        "GetFlightInfo", flight_sql.descriptor("CommandStatementQuery", **insert).serialize()
    ).is_ok
    polled, planned, returning = (
        leaver.call(method, flight_sql.statement_query(sql).serialize(), shared)
        for method, sql in (
            ("PollFlightInfo", "FROM people"),
            ("GetFlightInfo", "FROM empty"),
            ("GetFlightInfo", "UPDATE people SET id = id RETURNING *"),
        )
    )
    infos = [flight_sql.decode(polled.messages[0])[1][0], planned.messages[0], returning.messages[0]]
    tickets = [flight_sql.decode(flight_sql.decode(info)[3][0])[1][0] for info in infos]
    assert all(leaver.call("DoGet", ticket).is_ok for ticket in tickets)
    assert leaver.sql("SET bucket = 'shared'").is_ok
    slow = flight_sql.statement_query("SELECT sum(i % 7 + id) FROM shared.people, range(9000000000) r(i)")
    began = leaver.call("PollFlightInfo", slow.serialize())
    (poll,) = flight_sql.decode(began.messages[0])[2]
    with UsersFile(tenants.server.data_dir / "users.json").changing() as change:
        change.users = change.users.with_user(replace(change.users.users["leaver"], grants=()))
    until = time.monotonic() + 10
    # A call that runs at that very moment is told so and ends.
    while not (seen := leaver.sql("FROM sys.buckets")).is_ok or rows(seen):
        assert time.monotonic() < until
        time.sleep(0.2)
    assert {leaver.call("DoGet", ticket).code for ticket in tickets} == {grpc.StatusCode.NOT_FOUND}
    assert leaver.call("PollFlightInfo", poll).code is grpc.StatusCode.NOT_FOUND
    refused = leaver.sql("CREATE SCHEMA left_behind")
    assert (refused.code, "may be read" in refused.details) == (grpc.StatusCode.NOT_FOUND, False)
    end = flight_sql.packed("ActionEndTransactionRequest", transaction_id=transaction, action=1)
    assert not leaver.action("EndTransaction", end).is_ok
    assert values(tenants, "boss", "SELECT count(*) FROM shared.people WHERE id = 77") == [0]


def test_a_new_person_of_an_old_name_sees_nothing_of_what_the_former_asked(tenants: World) -> None:
    changes = UserChanges(UsersFile(tenants.server.data_dir / "users.json"))
    changes.add_user("name", ["shared=read"], password("name"))
    former = let_in(tenants, "name")
    assert former.sql("SELECT 'of the former'").is_ok
    changes.revoke_user("name")
    changes.add_user("name", ["shared=read"], password("name"))
    until = time.monotonic() + 10
    while not (seen := former.sql("FROM sys.queries")).is_ok or b"of the former" in seen.received():
        assert time.monotonic() < until
        time.sleep(0.2)


def let_in(tenants: World, user: str) -> RawClient:
    """Return the connection of a user who was added just now."""
    client, until = tenants.client(user), time.monotonic() + 10
    while not client.sql("SELECT 1").is_ok:
        assert time.monotonic() < until
        time.sleep(0.2)
    return client


@pytest.mark.parametrize("user", ["reader", "selfer", ANONYMOUS])
def test_no_route_leads_to_another_tenant(tenants: World, user: str) -> None:
    attack_routes(tenants, user)


@pytest.mark.parametrize("user", ["reader", "writer", "keeper", "selfer", ANONYMOUS])
def test_a_sample_of_hostile_statements(tenants: World, user: str, tmp_path: Path) -> None:
    sys.stdout.write(f"seed {SEED}\n")
    places = corpus.Places(tuple(tenants.files.values()), tmp_path / "made", tenants.listener.port)
    statements = [*corpus.by_kind(), *corpus.by_relation(), *corpus.by_function()]
    attack(tenants, user, corpus.filled(random.Random(SEED).sample(statements, SLICE), places))
    assert not places.made.exists()
    tenants.check_untouched()


def attack(tenants: World, user: str, statements: list[str]) -> None:
    """Run statements as a user, of which none may bring anything of another's; sometimes in a new session."""
    client = tenants.client(user)
    for at, sql in enumerate(statements):
        if at % SESSION_STATEMENTS == 0:
            client.action("CloseSession", b"")
        check(user, sql, client.sql(sql))


def attack_routes(tenants: World, user: str) -> None:
    """Call every route as a user with what is another's; a handle of another is refused."""
    client = tenants.client(user)
    for name, call in routes.by_handle(tenants.held):
        answer = call(client)
        check(user, name, answer)
        assert not answer.is_ok, (user, name)
    others = (routes.by_action(), routes.by_command(), routes.by_path(), routes.by_header())
    for name, call in (attack for attacks in others for attack in attacks):
        check(user, name, call(client))


def check(user: str, asked: str, answer: Answer) -> None:
    """Check that an answer is polite and holds nothing of the hidden tenant."""
    assert not foreign(answer), (user, asked, foreign(answer))
    assert answer.code in POLITE, (user, asked, answer.code, answer.details)
    if user == ANONYMOUS:
        assert answer.code is grpc.StatusCode.UNAUTHENTICATED, (asked, answer.code)


def test_every_action_and_command_is_attacked(tenants: World) -> None:
    listed = tenants.client("reader").call("ListActions", b"")
    actions = {flight_sql.decode(message)[1][0].decode() for message in listed.messages}
    attacked = {name.split()[0] for name, _ in routes.by_action()}
    assert {name for name in actions if name.islower()} == attacked
    known = {name for name in flight_sql._FIELDS if name.startswith("Command")}
    by_others = {"CommandStatementIngest", "CommandPreparedStatementQuery", "CommandPreparedStatementUpdate"}
    assert known == {*routes.COMMANDS, *by_others}
