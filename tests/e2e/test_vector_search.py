"""Searches in SQL: what they find, where they stand, and that they see exactly what the statement sees."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.testing import Server, serve
from tests.conftest import CLIENTS

ROWS, DIM = 400, 8
VECTORS = np.random.default_rng(7).standard_normal((ROWS, DIM)).astype(np.float32)
LANGUAGES = ["en", "de", "fr", "it"]


def docs(start: int = 0, stop: int = ROWS) -> pa.Table:
    """Rows of the dataset that is searched."""
    return pa.table(
        {
            "doc_id": pa.array(range(start, stop), pa.int64()),
            "lang": [LANGUAGES[at % 4] for at in range(start, stop)],
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(VECTORS[start:stop].ravel()), DIM),
        }
    )


def nearest(query: Any, k: int, among: Any = slice(None)) -> list[int]:
    """The doc_id of the nearest rows by cosine, by brute force in double precision."""
    ids = np.arange(ROWS)[among]
    vectors = VECTORS[ids].astype(np.float64)
    query = np.asarray(query, np.float64)
    cosine = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    return [int(at) for at in ids[np.argsort(-cosine, kind="stable")[:k]]]


@pytest.fixture(scope="module")
def library() -> Iterator[Server]:
    """A server with vectors in profile:user, in two objects, and names in primary."""
    with serve() as running:
        with dbapi.connect(running.uri, autocommit=True) as connection, connection.cursor() as cursor:
            for half in (docs(0, 250), docs(250)):
                cursor.adbc_ingest("docs", half, mode="create_append", db_schema_name="profile:user")
            names = pa.table({"doc_id": range(ROWS), "name": [f"n{at}" for at in range(ROWS)]})
            cursor.adbc_ingest("names", names, mode="create")
        yield running


@pytest.fixture
def cursor(library: Server) -> Iterator[dbapi.Cursor]:
    with dbapi.connect(library.uri, autocommit=True) as connection, connection.cursor() as opened:
        yield opened


def listed(query: Any) -> str:
    return "[" + ", ".join(map(str, query)) + "]"


QUERY = VECTORS[17] + 0.01
SEARCH = f"vector_search('profile:user.docs', {listed(QUERY)}, k => 5)"
FOUND = nearest(QUERY, 5)

PLACES = {
    "join": f"SELECT doc_id FROM {SEARCH} v JOIN names USING (doc_id) ORDER BY v._distance",
    "alias": f"SELECT vector_search.doc_id FROM {SEARCH} ORDER BY vector_search._distance",
    "columns renamed": f"SELECT a FROM {SEARCH} AS v(a, b, c, d) ORDER BY d",
    "common table": f"WITH f AS (FROM {SEARCH}) SELECT doc_id FROM f ORDER BY _distance",
    "sub-query": f"SELECT doc_id FROM names WHERE doc_id IN (SELECT doc_id FROM {SEARCH}) "
    f"ORDER BY list_position({FOUND}, doc_id)",
    "twice": f"SELECT a.doc_id FROM {SEARCH} a JOIN {SEARCH} b USING (doc_id) ORDER BY a._distance",
    "union": f"(SELECT doc_id FROM {SEARCH}) UNION ALL (SELECT doc_id FROM names WHERE false)",
    "whole row": f"SELECT v.doc_id FROM (SELECT v FROM {SEARCH} v) ORDER BY v._distance",
    "quoted name": f"""SELECT doc_id FROM vector_search('"profile:user".docs', {listed(QUERY)}, k => 5)""",
    "profile": f"SELECT doc_id FROM vector_search('docs', {listed(QUERY)}, k => 5, profile => 'user')",
    "cast": f"SELECT doc_id FROM vector_search('profile:user.docs', {listed(QUERY)}::FLOAT[8], k => 5)",
    "JSON": f"SELECT doc_id FROM vector_search('profile:user.docs', '{listed(QUERY)}', k => 5)",
    "column": f"SELECT doc_id FROM vector_search('profile:user.docs', {listed(QUERY)}, column => 'vector', "
    "k => 5)",
    "exact": f"SELECT doc_id FROM vector_search('profile:user.docs', {listed(QUERY)}, k => 5, exact => true)",
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("place", PLACES)
def test_a_search_stands_wherever_a_table_does(library: Server, client: str, place: str) -> None:
    assert CLIENTS[client](library.uri, PLACES[place]).column(0).to_pylist() == FOUND


def test_parameters_keep_their_places(cursor: dbapi.Cursor) -> None:
    query = QUERY.tolist()
    for sql, values, found in (
        ("SELECT doc_id FROM vector_search('profile:user.docs', ?, k => 5)", [query], FOUND),
        ("SELECT doc_id + ? FROM vector_search('profile:user.docs', ?, k => ?) WHERE doc_id > ?",
         [1000, query, 5, -1], [1000 + at for at in FOUND]),
        ("SELECT doc_id FROM vector_search('profile:user.docs', $2, k => $1)", [5, query], FOUND),
        ("SELECT doc_id FROM vector_search('profile:user.docs', ?, filter => ?, k => 3)",
         [listed(query), "lang = 'de'"], nearest(QUERY, 3, np.arange(ROWS) % 4 == 1)),
    ):  # fmt: skip
        cursor.execute(sql, values)
        assert [row[0] for row in cursor.fetchall()] == found, sql


def test_a_vector_of_any_arrow_list_is_bound_and_joined(cursor: dbapi.Cursor) -> None:
    sql = (
        "SELECT name FROM vector_search('profile:user.docs', ?, k => 5) v JOIN names USING (doc_id) "
        "ORDER BY v._distance"
    )
    floats = pa.float32()
    for kind in (pa.list_(floats), pa.large_list(floats), pa.list_(floats, DIM), pa.list_(pa.float64())):
        cursor.execute(sql, pa.record_batch([pa.array([QUERY.tolist()], kind)], ["0"]))
        assert cursor.fetchall() == [(f"n{at}",) for at in FOUND], kind


def test_a_vector_parameter_is_declared_as_a_list_of_floats(library: Server) -> None:
    sql = "SELECT doc_id FROM vector_search('profile:user.docs', ?, k => ?)"
    with dbapi.connect(library.uri, autocommit=True) as connection, connection.cursor() as opened:
        opened.adbc_prepare(sql)
        declared = opened.adbc_statement.get_parameter_schema()
    assert [field.type for field in pa.schema(declared)] == [pa.list_(pa.float32()), pa.int64()]


FILTERS = {
    "lang = 'en'": lambda at: at % 4 == 0,
    "doc_id BETWEEN 10 AND 60 AND lang <> 'de'": lambda at: (at >= 10) & (at <= 60) & (at % 4 != 1),
    "lang IN ('fr', 'it') OR doc_id < 3": lambda at: (at % 4 >= 2) | (at < 3),
    "NOT lang LIKE '%e%'": lambda at: at % 4 >= 2,
    "lang IS NULL": lambda at: at < 0,
}


@pytest.mark.parametrize("condition", FILTERS)
def test_filters_are_applied_before_the_search(cursor: dbapi.Cursor, condition: str) -> None:
    quoted = condition.replace("'", "''")
    cursor.execute(
        f"SELECT doc_id FROM vector_search('profile:user.docs', ?, k => 9, filter => '{quoted}')",
        [QUERY.tolist()],
    )
    assert [row[0] for row in cursor.fetchall()] == nearest(QUERY, 9, FILTERS[condition](np.arange(ROWS)))


def test_a_dataset_of_queries_is_a_batch(cursor: dbapi.Cursor) -> None:
    cursor.execute(
        'CREATE OR REPLACE TABLE asked AS FROM "profile:user".docs WHERE doc_id IN (3, 300) ORDER BY doc_id'
    )
    cursor.execute(
        "FROM vector_search('profile:user.docs', queries => 'asked', k => 2) ORDER BY query_index, _distance"
    )
    found = cursor.fetch_arrow_table()
    assert found.schema.names == ["query_index", "doc_id", "lang", "vector", "_distance"]
    assert found["query_index"].to_pylist() == [0, 0, 1, 1]
    assert found["doc_id"].to_pylist() == nearest(VECTORS[3], 2) + nearest(VECTORS[300], 2)
    assert found["_distance"].to_pylist()[0] == pytest.approx(0, abs=1e-6)


def test_searches_feed_tables_views_and_changes(cursor: dbapi.Cursor) -> None:
    cursor.execute(f"CREATE TABLE hits AS SELECT doc_id, _distance FROM {SEARCH}")
    cursor.execute(f"INSERT INTO hits SELECT doc_id, 9 FROM {SEARCH.replace('k => 5', 'k => 1')}")
    cursor.execute("SELECT doc_id FROM hits ORDER BY _distance")
    assert [row[0] for row in cursor.fetchall()] == [*FOUND, FOUND[0]]
    cursor.execute(
        "DELETE FROM hits WHERE doc_id IN (SELECT doc_id FROM vector_search('profile:user.docs', ?, k => 2))",
        [QUERY.tolist()],
    )
    assert cursor.rowcount == 3
    for kind in ("VIEW", "TEMP VIEW"):
        cursor.execute(f"CREATE {kind} near AS SELECT doc_id FROM {SEARCH}")
        cursor.execute("SELECT list(doc_id) FROM near")
        assert cursor.fetchall() == [(FOUND,)]
    cursor.execute("CREATE TEMP TABLE kept AS FROM near")
    cursor.execute("SELECT list(doc_id) FROM kept")
    assert cursor.fetchall() == [(FOUND,)]


def test_explain_tells_how_a_search_runs(cursor: dbapi.Cursor) -> None:
    cursor.execute(f"EXPLAIN SELECT doc_id FROM {SEARCH}")
    plan = dict(cursor.fetchall())["search"]
    assert plan.startswith("vector_search of profile:user.docs: ")
    for said in ("column vector", "k 5", "metric cosine", "tier "):
        assert said in plan


def test_a_search_sees_what_its_statement_sees(library: Server, unique_name: str) -> None:
    search = f"SELECT doc_id FROM vector_search('{unique_name}', ?, k => 3)"
    with (
        dbapi.connect(library.uri) as writer,
        dbapi.connect(library.uri, autocommit=True) as reader,
        writer.cursor() as own,
        reader.cursor() as other,
    ):

        def found(cursor: dbapi.Cursor, sql: str = search) -> list[int]:
            cursor.execute(sql, [QUERY.tolist()])
            return [row[0] for row in cursor.fetchall()]

        other.adbc_ingest(unique_name, docs(0, 200), mode="create")
        before = nearest(QUERY, 3, slice(0, 200))
        assert found(other) == before
        own.execute(f"DELETE FROM {unique_name} WHERE doc_id = {before[0]}")
        own.execute(f'INSERT INTO {unique_name} FROM "profile:user".docs WHERE doc_id >= 200')
        inside = nearest(QUERY, 3, np.arange(ROWS) != before[0])
        assert found(own) == inside
        assert found(other) == before
        writer.rollback()
        assert found(own) == before
        own.execute(f"DELETE FROM {unique_name} WHERE doc_id = {before[0]}")
        writer.commit()
        assert found(other) == nearest(QUERY, 3, [at for at in range(200) if at != before[0]])
        assert found(other, search.replace(unique_name, f"{unique_name}@1")) == before


BAD = {
    "vector_search('profile:user.docs', [1, 2])": (
        "INVALID_ARGUMENT",
        "has 2 dimensions, column 'vector' has 8",
    ),
    "vector_search('profile:user.docs', [0,0,0,0,0,0,0,0])": ("INVALID_ARGUMENT", "length 0"),
    "vector_search('profile:user.docs', '[NaN,0,0,0,0,0,0,0]')": ("INVALID_ARGUMENT", "NaN"),
    f"vector_search('profile:user.docs', {listed(QUERY)}, k => 0)": ("INVALID_ARGUMENT", "k must be"),
    f"vector_search('profile:user.docs', {listed(QUERY)}, k => -1)": ("INVALID_ARGUMENT", "k must be"),
    f"vector_search('profile:user.docs', {listed(QUERY)}, k => 1000000)": ("INVALID_ARGUMENT", "10000"),
    f"vector_search('profile:user.docs', {listed(QUERY)}, k => '5')": ("INVALID_ARGUMENT", "not '5'"),
    f"vector_search('profile:user.docs', {listed(QUERY)}, nprobes => 1000000)": (
        "INVALID_ARGUMENT",
        "from 1 to 100000",
    ),
    "vector_search('profile:user.docs', [1,2,3,4,5,6,7,NULL])": ("INVALID_ARGUMENT", "holds NULL"),
    f"vector_search('profile:user.docs', {listed(QUERY)}, metric => 'hamming')": (
        "INVALID_ARGUMENT",
        "cosine",
    ),
    f"vector_search('profile:user.docs', {listed(QUERY)}, column => 'lang')": ("INVALID_ARGUMENT", "vector"),
    f"vector_search('profile:user.docs', {listed(QUERY)}, column => 'nope')": ("INVALID_ARGUMENT", "vector"),
    f"vector_search('profile:user.docs', {listed(QUERY)}, filter => 'nope = 1')": (
        "INVALID_ARGUMENT",
        "lang",
    ),
    f"vector_search('profile:user.docs', {listed(QUERY)}, filter => 'length(lang) = 1')": (
        "INVALID_ARGUMENT",
        "LIKE",
    ),
    f"vector_search('profile:user.dogs', {listed(QUERY)})": ("NOT_FOUND", "docs"),
    f"vector_search('docs', {listed(QUERY)}, profile => 'nobody')": ("NOT_FOUND", "nobody"),
    f"vector_search('names', {listed(QUERY)})": ("INVALID_ARGUMENT", "no column of vectors"),
    "vector_search('profile:user.docs', 'some words')": ("FAILED_PRECONDITION", "embedder"),
    "text_search('profile:user.docs', 'some words')": ("FAILED_PRECONDITION", "create_vector_index"),
    "hybrid_search('profile:user.docs', 'some words')": ("FAILED_PRECONDITION", "embedder"),
    f"vector_search('profile:user.docs', {listed(QUERY)}, kk => 1)": (
        "INVALID_ARGUMENT",
        "has no argument 'kk'",
    ),
    "names n, vector_search('profile:user.docs', n.doc_id)": ("INVALID_ARGUMENT", "queries =>"),
    "vector_search('profile:user.docs')": ("INVALID_ARGUMENT", "takes a query"),
    f"vector_search('sys.buckets', {listed(QUERY)})": ("INVALID_ARGUMENT", "datasets only"),
}


@pytest.mark.parametrize("call", BAD)
def test_bad_input_says_what_would_be_right(cursor: dbapi.Cursor, call: str) -> None:
    code, said = BAD[call]
    with pytest.raises(dbapi.Error) as raised:
        cursor.execute(f"SELECT doc_id FROM {call}")
        cursor.fetchall()
    assert f"({code.title().replace('_', '')};" in str(raised.value), str(raised.value)
    assert said in str(raised.value)


def test_a_search_is_no_scalar(cursor: dbapi.Cursor) -> None:
    with pytest.raises(dbapi.Error, match="write it after FROM"):
        cursor.execute("SELECT vector_search('profile:user.docs', [1])")
