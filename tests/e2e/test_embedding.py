"""Columns of vectors that the server computes from texts: every way to write rows, and what is refused."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.testing import Server, serve
from tests.actions import act, act_all, put
from tests.flight_sql import statement_query

WORDS = ("cat", "dog", "car", "tree", "house", "river", "cloud", "stone")
KEY = "sk-very-secret-key"


class Endpoint:
    """A small server that speaks as OpenAI's does: a vector counts the words of a text."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.failures: list[int] = []
        self.keys: set[str | None] = set()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                endpoint.keys.add(self.headers["authorization"])
                status = endpoint.failures.pop() if endpoint.failures else 200
                endpoint.texts += body["input"] if status == 200 else []
                rows = [{"index": at, "embedding": counted(text)} for at, text in enumerate(body["input"])]
                answer = {"data": rows[::-1]} if status == 200 else {"error": f"wrong: {KEY}"}
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def counted(text: str) -> list[float]:
    """How often each word is in a text, as the endpoint answers."""
    found = [float(text.lower().count(word)) for word in WORDS]
    return found if any(found) else [0.01] * len(WORDS)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    running = Endpoint()
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.fixture(scope="module")
def embedding(endpoint: Endpoint) -> Iterator[Server]:
    """A server with an embedder; the endpoint fails for a moment at first."""
    settings = {"url": endpoint.url, "model": "m", "api_key": KEY, "batch": 16}
    nowhere = {"url": "http://127.0.0.1:9/v1", "model": "m", "timeout": 1}
    with serve(embedders={"counter": settings, "nowhere": nowhere}) as running:
        yield running


@pytest.fixture
def client(embedding: Server) -> Iterator[flight.FlightClient]:
    with flight.connect(embedding.uri) as connected:
        yield connected


@pytest.fixture
def cursor(embedding: Server) -> Iterator[dbapi.Cursor]:
    options = {"adbc.flight.sql.rpc.call_header.x-lakehouse-profile": "user"}
    connection = dbapi.connect(embedding.uri, db_kwargs=options, autocommit=True)
    with connection, connection.cursor() as opened:
        yield opened


@pytest.fixture
def docs(client: flight.FlightClient, unique_name: str) -> str:
    """A table with a column of vectors made of `text`."""
    texts = ["a cat", "a dog and a cat", None, "  ", "the river"]
    put(client, ["profile:user", unique_name], pa.table({"id": range(5), "text": texts}))
    embed(client, unique_name)
    return unique_name


def embed(client: flight.FlightClient, table: str, **more: str) -> dict[str, Any]:
    body = {"profile": "user", "table": table, "text_column": "text", "embedder": "counter"} | more
    return act(client, "embed_column", **body)


def rows(cursor: dbapi.Cursor, sql: str) -> list[tuple[Any, ...]]:
    cursor.execute(sql)
    return cursor.fetchall()


def check(cursor: dbapi.Cursor, table: str) -> int:
    """Compare all vectors with the texts that they are made of; return how many rows there are."""
    found = rows(cursor, f"SELECT text, vector FROM {table}")
    for text, vector in found:
        assert vector == (counted(text) if text and text.strip() else None), text
    return len(found)


def test_a_column_is_added_with_progress_after_an_endpoint_has_failed_for_a_moment(
    client: flight.FlightClient, cursor: dbapi.Cursor, endpoint: Endpoint, unique_name: str
) -> None:
    texts = [f"{WORDS[at % 8]} {at}" for at in range(100)]
    put(client, ["profile:user", unique_name], pa.table({"text": texts}))
    endpoint.failures = [503, 429]
    body = {"profile": "user", "table": unique_name, "text_column": "text", "embedder": "counter"}
    *told, report = act_all(client, "embed_column", **body)
    assert told[-1]["progress"] == {"table": unique_name, "rows": 100, "of": 100}
    assert report["vector_column"] == "vector"
    assert (report["dim"], report["rows"], report["version"], report["done"]) == (8, 100, 2, True)
    assert check(cursor, unique_name) == 100
    assert endpoint.keys == {f"Bearer {KEY}"}
    assert act(client, "embed_column", **body)["rows"] == 0, "done already"
    assert rows(cursor, f'SELECT count(*) FROM "{unique_name}@1"') == [(100,)]


def test_every_way_to_write_computes(
    client: flight.FlightClient, cursor: dbapi.Cursor, endpoint: Endpoint, docs: str
) -> None:
    put(client, ["profile:user", docs], pa.table({"id": [5], "text": ["stone"]}))
    cursor.adbc_ingest(docs, pa.table({"id": [6], "text": ["cloud"]}), mode="append")
    cursor.execute(f"INSERT INTO {docs} (id, text) VALUES (7, 'house'), (8, NULL)")
    cursor.executemany(f"INSERT INTO {docs} (id, text) VALUES (?, ?)", [(9, "tree"), (10, "car")])
    assert check(cursor, docs) == 11
    endpoint.texts.clear()
    cursor.execute(f"UPDATE {docs} SET text = 'a car' WHERE id = 0")
    cursor.execute(f"UPDATE {docs} SET text = NULL WHERE id = 1")
    cursor.execute(f"UPDATE {docs} SET id = id + 100 WHERE id = 4")
    cursor.execute(f"UPDATE {docs} SET vector = NULL WHERE id = 5")
    cursor.execute(f"DELETE FROM {docs} WHERE id = 6")
    cursor.execute(
        f"MERGE INTO {docs} USING (SELECT 7 AS id, 'dog' AS text UNION ALL SELECT 20, 'river') AS new "
        f"ON {docs}.id = new.id WHEN MATCHED THEN UPDATE SET text = new.text "
        "WHEN NOT MATCHED THEN INSERT (id, text) VALUES (new.id, new.text)"
    )
    assert sorted(endpoint.texts) == ["a car", "dog", "river", "stone"], "what is new, and nothing else"
    assert check(cursor, docs) == 11
    act(client, "compact", bucket="profile:user", dataset=docs)
    assert check(cursor, docs) == 11
    found = f"SELECT id FROM vector_search('{docs}', 'dog house', k => 1)"
    assert rows(cursor, found) == [(7,)]


def test_keys_and_transactions(
    client: flight.FlightClient, cursor: dbapi.Cursor, embedding: Server, unique_name: str
) -> None:
    cursor.execute(f"CREATE TABLE {unique_name} (id INT PRIMARY KEY, text VARCHAR)")
    assert embed(client, unique_name)["dim"] == 8, "a table without rows"
    put(client, ["profile:user", unique_name], pa.table({"id": pa.array([1], pa.int32()), "text": ["dog"]}))
    cursor.execute(
        f"INSERT INTO {unique_name} (id, text) VALUES (1, 'cat'), (2, 'car') "
        "ON CONFLICT (id) DO UPDATE SET text = excluded.text"
    )
    assert check(cursor, unique_name) == 2
    options = {"adbc.flight.sql.rpc.call_header.x-lakehouse-profile": "user"}
    with dbapi.connect(embedding.uri, db_kwargs=options) as connection, connection.cursor() as other:
        other.execute(f"UPDATE {unique_name} SET text = 'tree' WHERE id = 2")
        other.execute(f"SELECT id FROM vector_search('{unique_name}', 'tree', k => 1)")
        assert other.fetchall() == [(2,)], "a transaction finds its own text"
        connection.rollback()
    assert rows(cursor, f"SELECT text FROM vector_search('{unique_name}', 'car', k => 1)") == [("car",)]


@pytest.mark.parametrize(
    ("written", "declared"), [("?", pa.list_(pa.float32())), ("CAST(? AS VARCHAR)", pa.utf8())]
)
def test_texts_to_search_for_are_parameters(
    cursor: dbapi.Cursor, docs: str, written: str, declared: pa.DataType
) -> None:
    """JDBC binds no text to what is declared as a list, so a cast declares a text."""
    search = f"SELECT text FROM vector_search('{docs}', {written}, k => 1)"
    cursor.adbc_prepare(search)
    assert pa.schema(cursor.adbc_statement.get_parameter_schema()).types == [declared]
    for text, found in (("my cat", "a cat"), ("a river", "the river"), (counted("dog"), "a dog and a cat")):
        cursor.execute(search, [str(text)])
        assert cursor.fetchall() == [(found,)]


def test_ranks_by_vector_and_by_text_add_up(
    client: flight.FlightClient, cursor: dbapi.Cursor, docs: str
) -> None:
    search = f"hybrid_search('{docs}', ?, k => 5, filter => 'id < 9')"
    planned = statement_query(f"""FROM hybrid_search('"profile:user".{docs}', 'cat')""")
    with pytest.raises(pa.ArrowInvalid, match="has no text index"):
        client.get_flight_info(planned)
    body = {"profile": "user", "table": docs, "column": "text", "type": "fts"}
    act(client, "create_vector_index", **body, params={"filter_columns": ["id"]})
    client.get_flight_info(planned)
    put(client, ["profile:user", docs], pa.table({"id": [9], "text": ["cat"]}), mode="append")
    cursor.execute(
        f"SELECT s.id, n.name, _score FROM {search} s JOIN (VALUES (0, 'a'), (1, 'b'), (4, 'c')) n(id, name) "
        "USING (id) ORDER BY _score DESC",
        ["cat"],
    )
    by_rank = [(0, "a", 2 / 61), (1, "b", 2 / 62), (4, "c", 1 / 63)]
    assert cursor.fetchall() == [(row, name, pytest.approx(score)) for row, name, score in by_rank]


REFUSED = {
    "own vectors": ("INSERT INTO {t} VALUES (9, 'x', [1,2,3,4,5,6,7,8])", "computed by the server"),
    "vectors of an update": ("UPDATE {t} SET vector = [1,2,3,4,5,6,7,8]", "computed by the server"),
    "texts dropped": ("ALTER TABLE {t} DROP COLUMN text", "drop column vector first"),
    "type of texts": ("ALTER TABLE {t} ALTER COLUMN text TYPE INT", "drop column vector first"),
    "type of vectors": ("ALTER TABLE {t} ALTER COLUMN vector TYPE FLOAT[4]", "drop column vector first"),
    "NOT NULL": ("ALTER TABLE {t} ALTER COLUMN vector SET NOT NULL", "drop column vector first"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(cursor: dbapi.Cursor, docs: str, name: str) -> None:
    sql, said = REFUSED[name]
    with pytest.raises(dbapi.Error, match=said):
        cursor.execute(sql.format(t=docs))
    assert check(cursor, docs) == 5


def test_uploads_with_vectors_are_refused(
    client: flight.FlightClient, cursor: dbapi.Cursor, docs: str
) -> None:
    vector = pa.array([counted("cat")], pa.list_(pa.float32(), 8))
    with pytest.raises(pa.ArrowInvalid, match="computed by the server from text: leave it out"):
        put(client, ["profile:user", docs], pa.table({"id": [9], "text": ["cat"], "vector": vector}))
    put(client, ["profile:user", docs], pa.table({"id": [9], "text": ["cat"], "vector": [None]}))
    assert check(cursor, docs) == 6


def test_columns_keep_their_part_through_renames(cursor: dbapi.Cursor, docs: str) -> None:
    cursor.execute(f"ALTER TABLE {docs} RENAME COLUMN text TO body")
    cursor.execute(f"ALTER TABLE {docs} RENAME COLUMN vector TO v")
    cursor.execute(f"INSERT INTO {docs} (id, body) VALUES (9, 'stone')")
    assert rows(cursor, f"SELECT v FROM {docs} WHERE id = 9") == [(counted("stone"),)]
    cursor.execute(f"ALTER TABLE {docs} DROP COLUMN v")
    cursor.execute(f"ALTER TABLE {docs} DROP COLUMN body")
    assert rows(cursor, f"SELECT max(id) FROM {docs}") == [(9,)]


def test_bad_requests_say_what_is_right(client: flight.FlightClient, docs: str) -> None:
    for body, said in (
        ({"text_column": "words"}, "no column 'words'; the columns are: id, text, vector"),
        ({"text_column": "id"}, "column 'id' is int64: vectors are made of texts"),
        ({"embedder": "oracle"}, "no embedder 'oracle'; there are: counter, nowhere, wordllama"),
        ({"vector_column": "id"}, "column 'id' exists already"),
        ({"vector_column": ""}, "'vector_column' must be a name"),
        ({"vector_column": "a\0b"}, "1 to 255 printable characters"),
        ({"embedder": "nowhere"}, "made of text by counter"),
        ({"embedder": "nowhere", "vector_column": "v"}, "its endpoint does not answer"),
        ({"colour": "red"}, "takes only profile, table"),
        ({"profile": "nobody"}, "no profile 'nobody'"),
    ):
        with pytest.raises(Exception, match=said):
            embed(client, docs, **body)


def test_an_endpoint_that_fails_changes_nothing_and_shows_no_key(
    cursor: dbapi.Cursor, endpoint: Endpoint, docs: str
) -> None:
    endpoint.failures = [401]
    with pytest.raises(dbapi.Error, match="answers 401, it does not accept the key") as refused:
        cursor.execute(f"INSERT INTO {docs} (id, text) VALUES (9, 'stone')")
    assert KEY not in str(refused.value)
    assert check(cursor, docs) == 5
