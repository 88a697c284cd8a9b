"""Searches by text: what words find, and that no text and no filter costs anybody the index."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.flight as flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.testing import serve
from tests.actions import act, put, vectors

pytestmark = pytest.mark.slow

TEXTS = ["the rain in Spain", "die Katze schläft", 'a "quoted" word', "rain and rain", "雨 猫"]


@pytest.fixture(scope="module")
def cursor() -> Iterator[dbapi.Cursor]:
    """A cursor of a server with indexed texts, and with too little memory for exact searches of vectors."""
    rows = [[float(at % 7 + 1), float(at % 11), *[1.0] * 62] for at in range(6000)]
    many = pa.table({"id": range(6000), "lang": ["en", "de"] * 3000, "vector": vectors(rows)})
    with serve(vectors={"memory": "1MiB"}) as running, flight.connect(running.uri) as client:
        put(client, ["profile:user", "texts"], pa.table({"id": range(len(TEXTS)), "body": TEXTS}))
        put(client, ["profile:user", "many"], many)
        for table, kind, columns in (("texts", "fts", ["id"]), ("many", "ivf_flat", ["id", "lang"])):
            params = {"filter_columns": columns}
            act(client, "create_vector_index", profile="user", table=table, type=kind, params=params)
        with dbapi.connect(running.uri, autocommit=True) as connection, connection.cursor() as opened:
            yield opened


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("rain", [0, 3]),
        ("RAIN spain", [0, 3]),
        ('"quoted"', [2]),
        ('"quoted word" -rain', [0, 2, 3]),
        ("body:rain AND (((", [0, 3]),
        ("Schläft", [1]),
        ("雨", [4]),
        ("a\0b", []),
        ("nothing like it", []),
    ],
)
def test_words_are_found_and_signs_mean_nothing(cursor: dbapi.Cursor, text: str, found: list[int]) -> None:
    cursor.execute("SELECT id FROM text_search('profile:user.texts', ?)", [text])
    assert sorted(row[0] for row in cursor.fetchall()) == found


BAD = {
    "text_search('profile:user.texts', '  ')": "it is empty",
    "text_search('profile:user.texts', 5)": "query takes a text",
    "text_search('profile:user.texts', repeat('x', 9))": "constants and parameters",
    f"text_search('profile:user.texts', '{'x ' * 6000}')": "longer than 10000 characters",
    "text_search('profile:user.texts', 'rain', column => 'id')": "there are: body",
    "text_search('profile:user.texts', 'rain', filter => 'id = ''x''')": "'x'",
    "text_search('profile:user.texts', 'rain', filter => 'id LIKE 5')": "~~",
}


@pytest.mark.parametrize("call", BAD)
def test_bad_input_changes_nothing(cursor: dbapi.Cursor, call: str) -> None:
    scores = "SELECT _score FROM text_search('profile:user.texts', 'rain', filter => 'id = 3')"
    before = cursor.execute(scores).fetchall()
    with pytest.raises(dbapi.Error, match=BAD[call]):
        cursor.execute(f"SELECT id FROM {call}").fetchall()
    assert cursor.execute(scores).fetchall() == before


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("filter => 'lang = 5'", "INT"),
        ("filter => 'id = ''x'''", "'x'"),
        ("refine => 99999999999", "refine takes a whole number from 1 to 100000"),
        ("ef => 0", "ef takes a whole number from 1 to 100000"),
    ],
)
def test_an_index_of_vectors_stays_in_use(cursor: dbapi.Cursor, rest: str, said: str) -> None:
    search = f"FROM vector_search('profile:user.many', {[1.0] * 64}, k => 10000"
    with pytest.raises(dbapi.Error, match=said):
        cursor.execute(f"SELECT id {search}, {rest})").fetchall()
    for filtered, count in (("id = 99999999999999999999999", 0), ("id < 1e400 AND lang = ''en''", 3000)):
        cursor.execute(f"SELECT id {search}, filter => '{filtered}')")
        assert len(cursor.fetchall()) == count
    cursor.execute(f"EXPLAIN SELECT id {search})")
    assert "tier index" in dict(cursor.fetchall())["search"]
