"""Use an ibis backend as an analyst does; print what each step gave, one JSON object a line."""

import sys
from typing import Any
from urllib.parse import urlsplit

import ibis

from tests.clients.report import show

address = urlsplit(sys.argv[1])
connection = ibis.gizmosql.connect(host=address.hostname, port=address.port)


def memtable() -> Any:
    """Join rows of the client's with rows of the server's; ibis uploads them first."""
    names = ibis.memtable({"species": ["cat"], "called": ["Tom"]})
    return animals.join(names, "species").select("called", "legs").to_pyarrow().to_pylist()


def temporary_table() -> Any:
    made = connection.create_table("kept", animals.filter(animals.legs == 4), temp=True)
    return made.order_by("species").to_pyarrow().to_pylist()


animals = connection.table("animals", database="primary")
people = connection.table("people", database="testing")
notes = connection.table("notes", database="profile:user")
many = connection.sql("SELECT range AS i FROM range(200000)")

show("version", lambda: connection.version)
show("current_catalog", lambda: connection.current_catalog)
show("current_database", lambda: connection.current_database)
show("list_catalogs", lambda: connection.list_catalogs())
show("list_databases", lambda: sorted(connection.list_databases()))
show("list_databases of the catalog", lambda: sorted(connection.list_databases(catalog="lakehouse")))
show("list_tables", lambda: sorted(connection.list_tables()))
show("list_tables of a bucket", lambda: sorted(connection.list_tables(database="testing")))
show("list_tables like", lambda: connection.list_tables(database=("lakehouse", "testing"), like="peo"))
show("schema", lambda: {k: str(t) for k, t in connection.table("every_type").schema().items()})
show("missing table", lambda: connection.table("nothing"))
show("timezone", lambda: connection.settings["TimeZone"])
show("filter", lambda: animals.filter(animals.legs > 2).order_by("species").to_pyarrow().to_pylist())
show(
    "aggregate",
    lambda: animals.group_by("legs").agg(n=animals.count()).order_by("legs").execute().values.tolist(),
)
show("count", lambda: int(people.count().execute()))
show("scalar", lambda: animals.legs.max().to_pyarrow().as_py())
show("column", lambda: sorted(animals.species.to_pyarrow().to_pylist()))
show(
    "join of two buckets",
    lambda: (
        people.join(animals, people.pet == animals.species)
        .select("name", "legs")
        .order_by("name")
        .to_pyarrow()
        .to_pylist()
    ),
)
show(
    "join of three buckets",
    lambda: (
        people.join(animals, people.pet == animals.species)
        .join(notes, notes.about == people.pet)
        .select("name", "legs", "Note")
        .to_pyarrow()
        .to_pylist()
    ),
)
show("dates", lambda: people.filter(people.born.year() > 1900).name.to_pyarrow().to_pylist())
show("all types", lambda: connection.table("every_type").to_pyarrow().to_pylist())
show(
    "sql",
    lambda: (
        connection.sql("SELECT species, legs * 2 AS twice FROM animals ORDER BY 1").to_pyarrow().to_pylist()
    ),
)
show(
    "sql then expression",
    lambda: (
        connection.sql("SELECT * FROM testing.people")
        .filter(ibis._.pet.isnull())
        .name.to_pyarrow()
        .to_pylist()
    ),
)
show("batches", lambda: sum(batch.num_rows for batch in many.to_pyarrow_batches()))
show(
    "window",
    lambda: (
        animals.mutate(rank=ibis.row_number().over(order_by=ibis.desc("species")))
        .order_by("rank")
        .limit(1)
        .select("species")
        .to_pyarrow()
        .to_pylist()
    ),
)
show("memtable", memtable)
show("temporary table", temporary_table)
show("raw_sql", lambda: connection.raw_sql("SELECT 42 AS answer").fetchall())
show("wrong expression", lambda: connection.sql("SELECT nothing FROM animals"))
