"""Make, fill and drop tables with an ibis backend; print what each step gave, one JSON object a line."""

import sys
from typing import Any
from urllib.parse import urlsplit

import ibis
import pyarrow as pa

from tests.clients.report import show

address = urlsplit(sys.argv[1])
PETS = {"species": ["bird", "cat", "dog"], "legs": [2, 4, 4]}


def connect() -> Any:
    return ibis.gizmosql.connect(host=address.hostname, port=address.port)


connection = connect()
other = connect()


def tables(database: str | None = None) -> list[str]:
    """List tables, but for the memtables that ibis uploads and drops when Python forgets them."""
    found = other.list_tables(database=database)
    return sorted(name for name in found if not name.startswith("ibis_"))


def rows(name: str, database: str | None = None, reader: Any = other) -> Any:
    """Read a table, ordered by its first column, on the connection that has not written it."""
    table = reader.table(name, database=database)
    return table.order_by(table.columns[0]).to_pyarrow().to_pylist()


def from_schema() -> Any:
    schema = ibis.schema(
        {"n": "!int64", "at": "timestamp", "price": "decimal(9, 2)", "tags": "array<string>"}
    )
    connection.create_table("typed", schema=schema)
    return {name: str(kind) for name, kind in other.table("typed").schema().items()}


def from_expression() -> Any:
    connection.create_table("pets", ibis.memtable(PETS))
    pets = connection.table("pets")
    connection.create_table("legs", pets.group_by("legs").agg(n=pets.count()))
    return [rows("pets"), rows("legs")]


def from_arrow() -> Any:
    connection.create_table("arrow", pa.table(PETS), database="testing")
    return rows("arrow", "testing")


def overwritten() -> Any:
    connection.create_table("pets", ibis.memtable({"species": ["fish"], "legs": [0]}), overwrite=True)
    return [rows("pets"), tables()]


def inserted() -> Any:
    connection.insert("pets", ibis.memtable(PETS))
    connection.insert("pets", {"species": ["ant"], "legs": [6]})
    pets = connection.table("pets")
    connection.insert(
        "pets", pets.filter(pets.legs == 6).mutate(legs=pets.legs + 2, species=ibis.literal("spider"))
    )
    return rows("pets")


def inserted_over() -> Any:
    connection.insert("pets", PETS, overwrite=True)
    return rows("pets")


def temporary() -> Any:
    connection.create_table("kept", connection.table("pets"), temp=True)
    connection.create_table("kept", ibis.memtable({"one": [1]}), temp=True, overwrite=True)
    return [rows("kept", reader=connection), "kept" in tables()]


def view() -> Any:
    pets = connection.table("pets")
    connection.create_view("walking", pets.filter(pets.legs == 4).select("species"))
    shown = rows("walking")
    connection.create_view("walking", pets.select("legs"), overwrite=True)
    again = rows("walking")
    connection.drop_view("walking")
    return [shown, again, "walking" in tables()]


def raw() -> Any:
    connection.raw_sql("UPDATE pets SET legs = 3 WHERE species = 'dog'")
    deleted = connection.raw_sql("DELETE FROM pets WHERE legs = 2 RETURNING species").fetchall()
    return [deleted, rows("pets")]


def rolled_back() -> Any:
    connection.raw_sql("BEGIN")
    connection.insert("pets", connection.table("pets"))
    inside = len(rows("pets", reader=connection))
    connection.raw_sql("ROLLBACK")
    return [inside, len(rows("pets", reader=connection))]


def emptied() -> Any:
    connection.truncate_table("pets")
    return rows("pets")


def database() -> Any:
    connection.create_database("kennel")
    connection.create_table("dogs", pa.table({"name": ["Rex"]}), database="kennel")
    found = [rows("dogs", "kennel"), "kennel" in other.list_databases()]
    connection.drop_table("dogs", database="kennel")
    connection.drop_database("kennel")
    return [*found, "kennel" in other.list_databases()]


def dropped() -> Any:
    for name in ("pets", "legs", "typed"):
        connection.drop_table(name)
    connection.drop_table("pets", force=True)
    connection.drop_table("arrow", database="testing")
    return [tables(), tables("testing")]


show("create_table of a schema", from_schema)
show("create_table of an expression", from_expression)
show("create_table of Arrow", from_arrow)
show("create_table again", lambda: connection.create_table("pets", ibis.memtable(PETS)))
show("overwrite", overwritten)
show("insert", inserted)
show("insert with overwrite", inserted_over)
show("temporary table", temporary)
show("create_view", view)
show("raw_sql", raw)
show("rollback", rolled_back)
show("truncate_table", emptied)
show("create_database", database)
show("drop_table", dropped)
show("drop_table again", lambda: connection.drop_table("pets"))
