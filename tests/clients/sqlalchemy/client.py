"""Use SQLAlchemy with the GizmoSQL dialect; print what each step gave, one JSON object a line."""

import sys
from typing import Any

import pandas
import sqlalchemy as sa

from tests.clients.report import show

address = sys.argv[1].partition("//")[2]
engine = sa.create_engine(f"gizmosql://{address}")
inspector = sa.inspect(engine)
animals = sa.Table(
    "animals", sa.MetaData(), sa.Column("species", sa.String), sa.Column("legs", sa.Integer), schema="primary"
)
people = sa.Table(
    "people",
    sa.MetaData(),
    sa.Column("name", sa.String),
    sa.Column("born", sa.Date),
    sa.Column("pet", sa.String),
    schema="testing",
)


def rows(statement: Any, **values: Any) -> list[Any]:
    with engine.connect() as connection:
        return [list(row) for row in connection.execute(statement, values)]


def columns(name: str, schema: str) -> dict[str, str]:
    return {column["name"]: str(column["type"]) for column in inspector.get_columns(name, schema=schema)}


def reflected() -> list[str]:
    table = sa.Table("people", sa.MetaData(), schema="testing", autoload_with=engine)
    return [f"{column.name} {column.type}" for column in table.columns]


def with_bucket() -> list[Any]:
    """Name the bucket in the URL: unknown options of a URL become headers."""
    chosen = sa.create_engine(f"gizmosql://{address}?x-lakehouse-bucket=testing")
    with chosen.connect() as connection:
        return list(connection.execute(sa.text("SELECT species FROM animals")).scalars())


def with_catalog() -> list[Any]:
    chosen = sa.create_engine(f"gizmosql://{address}?catalog=lakehouse")
    with chosen.connect() as connection:
        return list(connection.execute(sa.text("SELECT current_catalog()")).scalars())


def ended(end: str) -> list[Any]:
    """Begin, read, end and read again on one connection."""
    with engine.connect() as connection:
        first = connection.execute(sa.text("SELECT 1")).scalar()
        getattr(connection, end)()
        return [first, connection.execute(sa.text("SELECT 2")).scalar()]


def begun() -> Any:
    with engine.begin() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(animals)).scalar()


def after_an_error() -> Any:
    with engine.connect() as connection:
        try:
            connection.execute(sa.text("SELECT nothing FROM animals"))
        except sa.exc.DBAPIError:
            connection.rollback()
        return connection.execute(sa.text("SELECT 3")).scalar()


joined = (
    sa.select(people.c.name, animals.c.legs)
    .join_from(people, animals, people.c.pet == animals.c.species)
    .order_by(people.c.name)
)

show("schemas", lambda: inspector.get_schema_names())
show("tables", lambda: inspector.get_table_names(schema="primary"))
show("views", lambda: inspector.get_view_names(schema="primary"))
show(
    "has_table",
    lambda: [
        inspector.has_table("animals", schema="primary"),
        inspector.has_table("nothing", schema="primary"),
    ],
)
show("columns", lambda: columns("people", "testing"))
show("columns of every type", lambda: columns("every_type", "primary"))
show("primary key", lambda: inspector.get_pk_constraint("animals", schema="primary"))
show("foreign keys", lambda: inspector.get_foreign_keys("animals", schema="primary"))
show("indexes", lambda: inspector.get_indexes("animals", schema="primary"))
show("check constraints", lambda: inspector.get_check_constraints("animals", schema="primary"))
show("reflected", reflected)
show("select", lambda: rows(sa.select(animals).order_by("species")))
show("select with a bound value", lambda: rows(sa.select(animals.c.species).where(animals.c.legs == 2)))
show(
    "select with bound values",
    lambda: rows(sa.select(people.c.name).where(people.c.name.in_(["Ada", "Cy"])).order_by("name")),
)
show(
    "text with bound values",
    lambda: rows(
        sa.text("SELECT species FROM animals WHERE legs > :legs AND species LIKE :name"), legs=3, name="c%"
    ),
)
show("join of two buckets", lambda: rows(joined))
show("limit and offset", lambda: rows(sa.select(animals.c.species).order_by("species").limit(1).offset(1)))
show(
    "dates",
    lambda: rows(sa.select(people.c.name).where(people.c.born > sa.literal("1900-01-01").cast(sa.Date))),
)
show("header", with_bucket)
show("catalog", with_catalog)
show("commit", lambda: ended("commit"))
show("rollback", lambda: ended("rollback"))
show("begin", begun)
show("after an error", after_an_error)
show("missing table", lambda: rows(sa.text("SELECT * FROM nothing")))
show("pandas", lambda: pandas.read_sql(joined, engine).to_dict("records"))
show(
    "pandas with parameters",
    lambda: pandas.read_sql(
        sa.text("SELECT legs FROM animals WHERE species = :s"), engine, params={"s": "cat"}
    ).to_dict("records"),
)
