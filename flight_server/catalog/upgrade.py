"""Makes the tables of a new catalog, and brings those of an older one to today's in one transaction."""

import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, insert, inspect, select, update
from sqlalchemy.schema import CreateIndex, CreateTable, DropIndex

from flight_server.catalog.profiles import profiles
from flight_server.catalog.sqlite import WRITES
from flight_server.catalog.tables import (
    SCHEMA_VERSION,
    datasets_by_name,
    former_names,
    holds,
    meta,
    metadata,
    one_live_dataset_per_name,
    secret_keys,
)
from flight_server.catalog.vector_indexes import leases, vector_indexes
from flight_server.errors import FailedPreconditionError

_KEY_BYTES = 32
_VERSION_NAME = "schema_version"
_NOT_A_CATALOG = "the database holds other tables and is not a catalog of this server; name another one"


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


_UPGRADES: Mapping[int, Callable[[Connection], None]] = {2: _to_3, 3: _to_4}
"""Version of the tables found → what brings them to the next one."""


def ensure_schema(engine: Engine) -> None:
    """Make the tables, or bring them up to date. Raises FailedPreconditionError where that cannot be."""
    # Looking first keeps an open from waiting for somebody else's long transaction.
    with engine.connect() as connection:
        if inspect(connection).get_table_names() and _found_version(connection) == SCHEMA_VERSION:
            return
    with engine.execution_options(**{WRITES: True}).begin() as connection:
        if inspect(connection).get_table_names():
            _upgrade(connection)
        else:
            _create_schema(connection)


def _create_schema(connection: Connection) -> None:
    metadata.create_all(connection)
    connection.execute(insert(meta), {"name": _VERSION_NAME, "value": str(SCHEMA_VERSION)})
    create_key(connection)


def create_key(connection: Connection) -> None:
    """Add a key by which tickets are signed."""
    key = {"created_at": datetime.now(UTC), "key": secrets.token_bytes(_KEY_BYTES)}
    connection.execute(insert(secret_keys), key)


def _upgrade(connection: Connection) -> None:
    version = _found_version(connection)
    for known in range(version, SCHEMA_VERSION):
        _UPGRADES[known](connection)
    connection.execute(update(meta).where(meta.c.name == _VERSION_NAME).values(value=str(SCHEMA_VERSION)))


def _found_version(connection: Connection) -> int:
    """Return the version of the tables that are there. Raises FailedPreconditionError for unknown ones."""
    if not inspect(connection).has_table(meta.name):
        raise FailedPreconditionError(_NOT_A_CATALOG)
    version = connection.execute(select(meta.c.value).where(meta.c.name == _VERSION_NAME)).scalar()
    readable = {str(known): known for known in (*_UPGRADES, SCHEMA_VERSION)}
    if version not in readable:
        raise FailedPreconditionError(
            f"the catalog has schema version {version or 'unknown'}, "
            f"this server reads version {SCHEMA_VERSION}; run the release that wrote it"
        )
    return readable[version]
