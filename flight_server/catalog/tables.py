"""The tables of the catalog, in SQLAlchemy Core and the same for every database."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator

SCHEMA_VERSION = 2
"""Version of these tables; it changes with every change to them."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """A timezone-aware moment, stored as microseconds since 1970 UTC: exact and ordered everywhere."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Turn a moment into microseconds."""
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """Turn microseconds into a moment."""
        return None if value is None else _EPOCH + value * _MICROSECOND


metadata = MetaData()

meta = Table(
    "catalog_meta",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

secret_keys = Table(
    "secret_keys",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("created_at", Instant, nullable=False),
    Column("key", LargeBinary, nullable=False),
)

namespaces = Table(
    "namespaces",
    metadata,
    Column("name", Text, primary_key=True),
    Column("bucket", Text, nullable=False),
)

schemas = Table(
    "schemas",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("digest", Text, nullable=False, unique=True),
    Column("arrow_schema", LargeBinary, nullable=False),
)

commits = Table(
    "commits",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Instant, nullable=False),
    Column("principal", Text, nullable=False),
    Column("summary", Text, nullable=False),
    sqlite_autoincrement=True,
)

datasets = Table(
    "datasets",
    metadata,
    Column("id", Text, primary_key=True),
    Column("namespace", Text, ForeignKey("namespaces.name"), nullable=False),
    Column("name", Text, nullable=False),
    Column("lower_name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    # The order of arrival decides between datasets of one name that were created at the same time.
    Column("arrival", Integer, nullable=False, unique=True),
    Column("shadowed_by", Text, ForeignKey("datasets.id")),
)

Index(
    "one_live_dataset_per_name",
    datasets.c.namespace,
    datasets.c.lower_name,
    unique=True,
    sqlite_where=datasets.c.shadowed_by.is_(None),
    postgresql_where=datasets.c.shadowed_by.is_(None),
)

dataset_versions = Table(
    "dataset_versions",
    metadata,
    Column("dataset", Text, ForeignKey("datasets.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("commit", Integer, ForeignKey("commits.id"), nullable=False),
    Column("schema_id", Integer, ForeignKey("schemas.id")),
    # Also the index by which the version at a commit is found.
    UniqueConstraint("dataset", "commit"),
)

object_refs = Table(
    "object_refs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("dataset", Text, ForeignKey("datasets.id"), nullable=False),
    Column("bucket", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("schema_id", Integer, ForeignKey("schemas.id")),
    Column("rows", BigInteger),
    Column("bytes", BigInteger, nullable=False),
    Column("checksum", Text, nullable=False),
    Column("added_version", Integer, nullable=False),
    Column("removed_version", Integer),
    Column("managed", Boolean, nullable=False),
    Index("object_refs_of_dataset", "dataset", "id"),
)

# Sweep asks it for each key that it finds in a bucket; only keys of ours can be there.
Index(
    "managed_objects_by_key",
    object_refs.c.key,
    sqlite_where=object_refs.c.managed,
    postgresql_where=object_refs.c.managed,
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("principal", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("result", JSON, nullable=False),
    Column("at", Instant, nullable=False),
)

# Keys that sweep has taken or is about to take away: a commit that names one comes too late.
swept_objects = Table(
    "swept_objects",
    metadata,
    Column("key", Text, primary_key=True),
    Column("at", Instant, nullable=False),
)

migrations = Table(
    "migrations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("report", JSON, nullable=False),
)
