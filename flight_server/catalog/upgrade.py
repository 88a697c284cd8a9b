"""Brings the tables of an older catalog to today's, in place and in one transaction."""

from collections.abc import Callable, Mapping

from sqlalchemy import Connection
from sqlalchemy.schema import CreateIndex, CreateTable, DropIndex

from flight_server.catalog.profiles import profiles
from flight_server.catalog.tables import datasets_by_name, former_names, holds, one_live_dataset_per_name
from flight_server.catalog.vector_indexes import leases, vector_indexes


def _to_3(connection: Connection) -> None:
    """Let names and schemas end, and views exist: since version 3 every name has its commits."""
    for table in ("namespaces", "datasets"):
        connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN since INTEGER NOT NULL DEFAULT 0")
        connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN dropped INTEGER")
    connection.exec_driver_sql("ALTER TABLE dataset_versions ADD COLUMN definition TEXT")
    connection.execute(DropIndex(one_live_dataset_per_name))
    connection.execute(CreateIndex(one_live_dataset_per_name))
    connection.execute(CreateIndex(datasets_by_name))
    connection.execute(CreateTable(former_names))
    connection.execute(CreateTable(holds))
    for index in former_names.indexes:
        connection.execute(CreateIndex(index))


def _to_4(connection: Connection) -> None:
    """Let profiles be made, and know of vector indexes."""
    for table in (profiles, vector_indexes, leases):
        connection.execute(CreateTable(table))
        for index in table.indexes:
            connection.execute(CreateIndex(index))


UPGRADES: Mapping[int, Callable[[Connection], None]] = {2: _to_3, 3: _to_4}
"""Version of the tables found → what brings them to the next one."""
