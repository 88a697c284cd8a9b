"""Make, fill, reflect and drop tables with SQLAlchemy; print what each step gave, one JSON object a line."""

import sys
from datetime import date
from decimal import Decimal
from typing import Any

import pandas
import sqlalchemy as sa
from sqlalchemy import orm

from tests.clients.report import show

address = sys.argv[1].partition("//")[2]
engine = sa.create_engine(f"gizmosql://{address}")
metadata = sa.MetaData(schema="primary")


class Base(orm.DeclarativeBase):
    """What the classes of the tables share."""

    metadata = metadata


class Owner(Base):
    """A table with a key, a column that must be unique, and a default."""

    __tablename__ = "owners"
    id: orm.Mapped[int] = orm.mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(50), unique=True)
    born: orm.Mapped[date | None]
    city: orm.Mapped[str | None] = orm.mapped_column(server_default=sa.text("'Berlin'"))
    pets: orm.Relationship[list["Pet"]] = orm.relationship(back_populates="owner")


class Pet(Base):
    """A table that refers to another, with a condition."""

    __tablename__ = "pets"
    __table_args__ = (sa.CheckConstraint("legs >= 0", name="pets_walk"),)
    name: orm.Mapped[str] = orm.mapped_column(primary_key=True)
    owner_id: orm.Mapped[int] = orm.mapped_column(
        sa.ForeignKey(Owner.id), primary_key=True, autoincrement=False
    )
    legs: orm.Mapped[int | None]
    weight: orm.Mapped[Decimal | None] = orm.mapped_column(sa.Numeric(9, 2))
    owner: orm.Relationship[Owner] = orm.relationship(back_populates="pets")


owners, pets = metadata.tables["primary.owners"], metadata.tables["primary.pets"]


def rows(statement: Any) -> list[Any]:
    with engine.connect() as connection:
        return [list(row) for row in connection.execute(statement)]


def write(statement: Any, *values: Any) -> int:
    """Run a statement, with one row of values or a list of them, and return its count."""
    with engine.begin() as connection:
        return connection.execute(statement, *values).rowcount


def names() -> list[str]:
    return [name for (name,) in rows(sa.select(owners.c.name).order_by(owners.c.id))]


def created() -> list[str]:
    metadata.create_all(engine)
    metadata.create_all(engine)
    return sa.inspect(engine).get_table_names(schema="primary")


def columns(table: str) -> list[Any]:
    found = sa.inspect(engine).get_columns(table, schema="primary")
    return [[column[key] for key in ("name", "type", "nullable", "default")] for column in found]


def constraints(kind: str) -> list[Any]:
    query = sa.text(
        "SELECT table_name, constraint_column_names FROM duckdb_constraints()"
        " WHERE constraint_type = :kind ORDER BY ALL"
    )
    return rows(query.bindparams(kind=kind))


def reflected() -> list[Any]:
    """Reflect all tables, and make them again elsewhere from what was found."""
    found = sa.MetaData()
    found.reflect(engine, schema="primary")
    copies = sa.MetaData(schema="testing")
    for table in found.sorted_tables:
        table.to_metadata(copies, schema="testing")
    copies.create_all(engine)
    there = sa.inspect(engine).get_table_names(schema="testing")
    copies.drop_all(engine)
    return [sorted(found.tables), there]


def comments() -> list[Any]:
    write(sa.text("COMMENT ON TABLE owners IS 'who feeds'"))
    write(sa.text("COMMENT ON COLUMN owners.name IS 'in full'"))
    return rows(
        sa.text(
            "SELECT comment FROM duckdb_tables() WHERE comment IS NOT NULL"
            " UNION ALL SELECT comment FROM duckdb_columns() WHERE comment IS NOT NULL"
        )
    )


def view() -> list[Any]:
    write(sa.text("CREATE VIEW walking AS SELECT name FROM pets WHERE legs > 0"))
    found = [sa.inspect(engine).get_view_names(schema="primary"), rows(sa.text("FROM walking ORDER BY name"))]
    write(sa.text("DROP VIEW walking"))
    return found


def temporary() -> list[Any]:
    kept = sa.Table("kept", sa.MetaData(), sa.Column("n", sa.Integer), prefixes=["TEMPORARY"])
    with engine.connect() as connection:
        kept.create(connection)
        connection.execute(sa.insert(kept), [{"n": 1}, {"n": 2}])
        found = list(connection.execute(sa.select(kept.c.n).order_by(kept.c.n)).scalars())
        kept.drop(connection)
        connection.commit()
    return found


def rolled_back() -> list[Any]:
    with engine.connect() as connection:
        connection.execute(sa.insert(owners), {"id": 99, "name": "Nobody"})
        connection.execute(sa.delete(pets))
        inside = [
            connection.execute(sa.select(sa.func.count()).select_from(t)).scalar() for t in (owners, pets)
        ]
        connection.rollback()
    return [inside, names(), rows(sa.select(sa.func.count()).select_from(pets))]


def mapped() -> list[Any]:
    """Add, change and remove objects of the classes."""
    with orm.Session(engine) as session:
        session.add(Owner(id=10, name="Kay", pets=[Pet(name="Rex", legs=4, weight=Decimal("12.50"))]))
        session.commit()
        kay = session.scalars(sa.select(Owner).where(Owner.name == "Kay")).one()
        kay.pets[0].legs = 3
        session.add(Pet(name="Mo", owner=kay, legs=2))
        session.commit()
        found = [[pet.name, pet.legs] for pet in sorted(kay.pets, key=lambda pet: pet.name)]
        for pet in kay.pets:
            session.delete(pet)
        session.delete(kay)
        session.commit()
    return [found, names()]


def frames() -> Any:
    """Write a frame in each of pandas' ways."""
    frame = pandas.DataFrame({"n": [1, 2], "word": ["a", None]})
    for way in ("fail", "append", "replace", "append"):
        frame.to_sql("frame", engine, schema="primary", if_exists=way, index=False)
    found = rows(sa.text("SELECT n, word FROM frame ORDER BY ALL"))
    write(sa.text("DROP TABLE frame"))
    return found


def dropped() -> list[str]:
    metadata.drop_all(engine)
    return sa.inspect(engine).get_table_names(schema="primary")


people = [{"id": n, "name": name, "born": date(1990, 1, n)} for n, name in enumerate("BCDE", 2)]
show("create_all", created)
show("columns of owners", lambda: columns("owners"))
show("columns of pets", lambda: columns("pets"))
show(
    "primary keys",
    lambda: [sa.inspect(engine).get_pk_constraint(name, "primary") for name in ("owners", "pets")],
)
show("unique", lambda: constraints("UNIQUE"))
show("unique of the inspector", lambda: sa.inspect(engine).get_unique_constraints("owners", "primary"))
show("foreign keys", lambda: sa.inspect(engine).get_foreign_keys("pets", schema="primary"))
show("check constraints", lambda: sa.inspect(engine).get_check_constraints("pets", schema="primary"))
show("reflect", reflected)
show("insert", lambda: write(sa.insert(owners), {"id": 1, "name": "A"}))
show("default", lambda: rows(sa.select(owners.c.born, owners.c.city)))
show("executemany", lambda: write(sa.insert(owners), people))
show("names", names)
show(
    "insert of several values",
    lambda: write(sa.insert(pets).values([{"name": n, "owner_id": 1, "legs": 4} for n in "xy"])),
)
show(
    "insert of a select",
    lambda: write(sa.insert(pets).from_select(["name", "owner_id"], sa.select(owners.c.name, owners.c.id))),
)
show(
    "update",
    lambda: write(
        sa.update(pets).where(pets.c.legs.is_(None)).values(legs=pets.c.owner_id, weight=Decimal("1.25"))
    ),
)
show("updated", lambda: rows(sa.select(pets).order_by(pets.c.name)))
show("delete", lambda: write(sa.delete(pets).where(pets.c.legs == 4)))
show("key that is there", lambda: write(sa.insert(owners), {"id": 1, "name": "Z"}))
show("name that is there", lambda: write(sa.insert(owners), {"id": 7, "name": "A"}))
show("NULL", lambda: write(sa.insert(owners).values(id=8, name=sa.null())))
show("wrong legs", lambda: write(sa.insert(pets), {"name": "q", "owner_id": 1, "legs": -1}))
show("comments", comments)
show("view", view)
show("temporary table", temporary)
show("rollback", rolled_back)
show("mapped classes", mapped)
show("pandas", frames)
show("drop_all", dropped)
