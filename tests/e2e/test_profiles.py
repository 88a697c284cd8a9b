"""Profiles: made, selected, loaded, indexed and dropped, through actions, headers and SQL."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.testing import Server, serve
from tests import flight_sql
from tests.actions import act, act_all, put, vectors

PROFILE_HEADER = "adbc.flight.sql.rpc.call_header.x-lakehouse-profile"


def docs(start: int, count: int = 4) -> pa.Table:
    """Rows whose vectors go around a circle: that of `id` n points at n degrees."""
    turns = [complex(0.0, 1.0) ** ((start + at) / 90) for at in range(count)]
    rows = [[turn.real, turn.imag] for turn in turns]
    return pa.table({"id": pa.array(range(start, start + count), pa.int64()), "vector": vectors(rows)})


def at(degrees: float) -> str:
    turn = complex(0.0, 1.0) ** (degrees / 90)
    return f"[{turn.real}, {turn.imag}]"


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """A server of its own, which brings indexes up to date at once."""
    with serve(vectors={"catch_up_after": 0.1}) as running:
        yield running


@pytest.fixture
def client(own: Server) -> Iterator[Any]:
    with flight.connect(own.uri) as connected:
        yield connected


@pytest.fixture
def profile(client: Any, unique_name: str) -> str:
    """A new profile with a dataset `docs`."""
    act(client, "create_profile", profile=unique_name)
    put(client, (f"profile:{unique_name}", "docs"), docs(0))
    return unique_name


def found(client: Any, profile: str, degrees: float, k: int = 1) -> list[int]:
    sql = f"SELECT id FROM vector_search('docs', '{at(degrees)}', k => {k}, profile => '{profile}')"
    ids: list[Any] = flight_sql.query(client, sql)["id"].to_pylist()
    return ids


def test_a_dropped_profile_takes_all_its_data_along(client: Any, own: Server, profile: str) -> None:
    folder = own.data_dir / "_profiles" / profile
    assert flight_sql.query(client, f'SELECT count(*) FROM "profile:{profile}".docs')[0].to_pylist() == [4]
    assert [*folder.rglob("*.parquet")]
    act(client, "create_vector_index", profile=profile, table="docs", type="ivf_flat")
    with pytest.raises(pa.ArrowException, match=f"profile {profile} already exists"):
        act(client, "create_profile", profile=profile)
    report = act(client, "drop_profile", profile=profile)
    assert (report["profile"], report["objects"]) == (profile, 1)
    assert not folder.exists()
    for sql in (f'FROM "profile:{profile}".docs', f'FROM "profile:{profile}".docs AT (VERSION => 1)'):
        with pytest.raises(pa.ArrowKeyError, match="no schema"):
            flight_sql.query(client, sql)
    names = "SELECT namespace FROM sys.datasets UNION ALL SELECT bucket FROM sys.profiles"
    assert f"profile:{profile}" not in flight_sql.query(client, names)[0].to_pylist()
    act(client, "create_profile", profile=profile)
    with pytest.raises(pa.ArrowKeyError, match="no table"):
        flight_sql.query(client, f'FROM "profile:{profile}".docs')


def test_a_transaction_with_changes_to_a_dropped_profile_fails_and_says_so(
    client: Any, own: Server, profile: str
) -> None:
    with dbapi.connect(own.uri) as connection, connection.cursor() as cursor:
        cursor.execute(f'INSERT INTO "profile:{profile}".docs VALUES (9, [0, 1])')
        act(client, "drop_profile", profile=profile)
        with pytest.raises(dbapi.Error, match=f"profile {profile} was dropped meanwhile"):
            connection.commit()


def test_a_ticket_for_a_dropped_profile_is_not_found(client: Any, profile: str) -> None:
    descriptor = flight.FlightDescriptor.for_path(f"profile:{profile}", "docs")
    ticket = client.get_flight_info(descriptor).endpoints[0].ticket
    assert client.do_get(ticket).read_all().num_rows == 4
    act(client, "drop_profile", profile=profile)
    with pytest.raises(pa.ArrowKeyError, match="no schema"):
        client.do_get(ticket).read_all()


def test_an_index_is_built_and_catches_up_with_the_dataset(client: Any, profile: str) -> None:
    *told, built = act_all(client, "create_vector_index", profile=profile, table="docs", type="ivf_flat")
    assert all(0 <= item["progress"]["done"] <= 1 for item in told)
    assert (built["done"], built["type"], built["column"], built["rows"]) == (True, "ivf_flat", "vector", 4)
    put(client, (f"profile:{profile}", "docs"), docs(50), mode="append")
    assert found(client, profile, 51.2) == [51]
    query = f"SELECT lag_versions, rows, index_type, error FROM sys.profiles WHERE profile = '{profile}'"
    shown = {}
    for _ in range(100):
        shown = flight_sql.query(client, query).to_pylist()[0]
        if shown["lag_versions"] == 0:
            break
        time.sleep(0.1)
    assert shown == {"lag_versions": 0, "rows": 8, "index_type": "ivf_flat", "error": None}
    assert found(client, profile, 52.9, 2) == [53, 52]
    dropped = act(client, "drop_vector_index", profile=profile, table="docs", column="VECTOR")
    assert dropped == {"profile": profile, "table": "docs", "columns": ["vector"], "done": True}
    assert found(client, profile, 52.9, 2) == [53, 52]
    with pytest.raises(pa.ArrowKeyError, match="has no index"):
        act(client, "drop_vector_index", profile=profile, table="docs")


def test_activation_tells_what_is_in_memory(client: Any, profile: str) -> None:
    row, summary = act_all(client, "activate_profile", profile=profile)
    assert {**row, "open_ms": 0, "prewarm_ms": 0, "payload_ms": 0, "bytes": 0} == {
        "profile": profile, "table": "docs", "index": "vector", "type": "none", "rows": 4, "dim": 2,
        "bytes": 0, "tier": "exact", "open_ms": 0, "prewarm_ms": 0, "payload_ms": 0, "evicted": [],
    }  # fmt: skip
    assert (summary["indexes"], summary["bytes"], summary["done"]) == (1, row["bytes"], True)
    query = f"SELECT state, tier, \"table\" FROM sys.profiles WHERE profile = '{profile}'"
    assert flight_sql.query(client, query).to_pylist() == [{"state": "hot", "tier": "exact", "table": "docs"}]
    listed = {each["profile"]: each for each in act_all(client, "list_profiles")}
    assert (listed[profile]["active"], listed["user"]["is_configured"]) == (1, True)
    assert act(client, "deactivate_profile", profile=profile)["entries"] == 1
    assert flight_sql.query(client, query).to_pylist() == [
        {"state": "cold", "tier": "exact", "table": "docs"}
    ]


def by_action(client: Any, profile: str) -> None:
    (told,) = act_all(client, "activate_profile", profile=profile, wait=False)
    assert told["done"] is False


def by_header(client: Any, profile: str) -> None:
    header = (b"x-lakehouse-profile", profile.encode())
    flight_sql.query(client, "SELECT 1", flight.FlightCallOptions(headers=[header]))


def by_statement(client: Any, profile: str) -> None:
    client.get_flight_info(flight_sql.statement_query(f"SET profile = '{profile}'"))


@pytest.mark.parametrize("select", [by_action, by_header, by_statement])
def test_selecting_a_profile_loads_it(client: Any, profile: str, select: Callable[[Any, str], None]) -> None:
    query = f"SELECT state FROM sys.profiles WHERE profile = '{profile}'"
    assert flight_sql.query(client, query).to_pylist() == [{"state": "cold"}]
    select(client, profile)
    for _ in range(100):
        if flight_sql.query(client, query).to_pylist() == [{"state": "hot"}]:
            break
        time.sleep(0.05)
    else:
        pytest.fail("it is not in memory")


def test_lists_are_loaded_when_they_have_an_index(client: Any, profile: str) -> None:
    path = f"profile:{profile}"
    for name in ("indexed", "plain"):
        put(client, (path, name), pa.table({"id": [1], "v": pa.array([[1.0, 0.0]], pa.list_(pa.float64()))}))
    act(client, "create_vector_index", profile=profile, table="indexed", type="ivf_flat")
    loaded = [
        (row.get("table"), row.get("type")) for row in act_all(client, "activate_profile", profile=profile)
    ]
    assert loaded == [("docs", "none"), ("indexed", "ivf_flat"), (None, None)]


def test_the_selected_profile_decides_what_a_bare_name_means(client: Any, own: Server, profile: str) -> None:
    other = f"{profile}.b"
    act(client, "create_profile", profile=other)
    put(client, (f"profile:{other}", "docs"), docs(100))
    search = f"SELECT id FROM vector_search('docs', '{at(101)}', k => 1)"
    for name, nearest in ((profile, [(3,)]), (other, [(101,)])):
        options = {PROFILE_HEADER: name}
        with (
            dbapi.connect(own.uri, options, autocommit=True) as connection,
            connection.cursor() as cursor,
        ):
            assert cursor.execute(search).fetchall() == nearest
            assert cursor.execute("SELECT count(*) FROM docs").fetchall() == [(4,)]
    with dbapi.connect(own.uri, autocommit=True) as connection, connection.cursor() as cursor:
        with pytest.raises(dbapi.Error, match="no table 'docs'"):
            cursor.execute(search)
        for name, nearest in ((profile, [(3,)]), (other, [(101,)])):
            cursor.execute(f"SET profile = '{name}'")
            assert cursor.execute(search).fetchall() == nearest
        with pytest.raises(dbapi.Error, match="no profile 'nobody'; the profiles here are: user, "):
            cursor.execute("SET profile = 'nobody'")


def test_uploads_go_to_the_selected_profile_unless_they_name_another_bucket(
    own: Server, profile: str
) -> None:
    table = pa.table({"x": [1]})
    with (
        dbapi.connect(own.uri, {PROFILE_HEADER: profile}, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        cursor.adbc_ingest(f"{profile}_own", table)
        cursor.adbc_ingest(f"{profile}_other", table, db_schema_name="testing")
        cursor.execute(f"SELECT bucket FROM sys.datasets WHERE starts_with(name, '{profile}_') ORDER BY name")
        assert cursor.fetchall() == [("testing",), (f"profile:{profile}",)]
    with flight.connect(own.uri) as client:
        put(client, ("testing", f"{profile}_path"), table, profile=profile)


BAD = [
    ("create_profile", {"profile": "A B"}, pa.ArrowInvalid, "cannot be the name of a profile"),
    ("create_profile", {"profile": "../x"}, pa.ArrowInvalid, "cannot be the name of a profile"),
    ("create_profile", {"profile": "x", "uri": "/"}, pa.ArrowInvalid, "takes only profile"),
    ("create_profile", {}, pa.ArrowInvalid, "must name a 'profile'"),
    ("drop_profile", {"profile": "user"}, pa.ArrowInvalid, "is named in the configuration"),
    ("drop_profile", {"profile": "nobody"}, pa.ArrowKeyError, "no profile 'nobody'"),
    ("activate_profile", {"profile": "user", "wait": 1}, pa.ArrowInvalid, "'wait' must be true or false"),
    ("list_profiles", {"profile": "user"}, pa.ArrowInvalid, "takes no keys, got 'profile'"),
    ("create_vector_index", {"profile": "user", "table": "no"}, pa.ArrowKeyError, "no table"),
    (
        "create_vector_index",
        {"profile": "user", "table": "t", "type": "x"},
        pa.ArrowInvalid,
        "there are auto",
    ),
    (
        "create_vector_index",
        {"profile": "user", "table": "t", "params": []},
        pa.ArrowInvalid,
        "a JSON object",
    ),
    (
        "create_vector_index",
        {"profile": "user", "table": "t", "params": {"metric": "hamming"}},
        pa.ArrowInvalid,
        "no metric 'hamming'; there are cosine, l2, dot",
    ),
    (
        "create_vector_index",
        {"profile": "user", "table": "t", "type": "fts", "params": {"metric": "l2"}},
        pa.ArrowInvalid,
        "leave the metric out",
    ),
]


@pytest.mark.parametrize(("action", "body", "error", "said"), BAD)
def test_what_cannot_be_done_is_refused(
    client: Any, action: str, body: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        act(client, action, **body)


def test_an_index_that_cannot_be_built_leaves_nothing(client: Any, own: Server, profile: str) -> None:
    zero = pa.table({"id": [7], "vector": vectors([[0.0, 0.0]])})
    put(client, (f"profile:{profile}", "docs"), zero, mode="append")
    for body, said in (
        ({}, "1 vector"),
        ({"column": "nope"}, "nope"),
        ({"params": {"surprise": 1}}, "surprise"),
    ):
        with pytest.raises(pa.ArrowInvalid, match=said):
            act(client, "create_vector_index", profile=profile, table="docs", type="ivf_flat", **body)
    assert not [*(own.data_dir / "_profiles" / profile).glob("vectors/*")]
    listed = {each["profile"]: each["indexes"] for each in act_all(client, "list_profiles")}
    assert listed[profile] == 0


def test_the_journals_of_all_profiles_are_one_table(client: Any, profile: str) -> None:
    query = "SELECT trial_id FROM sys.trials ORDER BY ALL"
    assert flight_sql.query(client, query)["trial_id"].to_pylist() == []
    columns = flight_sql.query(client, "FROM sys.trials").schema.names
    journal = pa.table({name: pa.nulls(1, pa.string()) for name in columns} | {"trial_id": ["a"]})
    put(client, (f"profile:{profile}", "trials"), journal)
    put(client, ("profile:user", "trials"), pa.table({"trial_id": ["of another shape"]}))
    assert flight_sql.query(client, query)["trial_id"].to_pylist() == ["a"]
