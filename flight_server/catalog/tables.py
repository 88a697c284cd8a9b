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
    and_,
)
from sqlalchemy.types import TypeDecorator

SCHEMA_VERSION = 4
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
    Column("since", Integer, nullable=False, server_default="0"),
    # The commit that dropped it; the row stays as long as datasets of it can be read.
    Column("dropped", Integer),
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
    # The commits from which on it has its name, and from which on it is no more.
    Column("since", Integer, nullable=False, server_default="0"),
    Column("dropped", Integer),
)

IS_LIVE = and_(datasets.c.shadowed_by.is_(None), datasets.c.dropped.is_(None))
"""What makes a row of `datasets` the one that has its name now."""

one_live_dataset_per_name = Index(
    "one_live_dataset_per_name",
    datasets.c.namespace,
    datasets.c.lower_name,
    unique=True,
    sqlite_where=IS_LIVE,
    postgresql_where=IS_LIVE,
)

# Lookups at older commits find dropped ones too.
datasets_by_name = Index("datasets_by_name", datasets.c.lower_name, datasets.c.namespace)

former_names = Table(
    "former_names",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("dataset", Text, ForeignKey("datasets.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("namespace", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("lower_name", Text, nullable=False),
    Column("since", Integer, nullable=False),
    Column("until", Integer, nullable=False),
    Index("former_names_by_name", "lower_name", "namespace"),
)

dataset_versions = Table(
    "dataset_versions",
    metadata,
    Column("dataset", Text, ForeignKey("datasets.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("commit", Integer, ForeignKey("commits.id"), nullable=False),
    Column("schema_id", Integer, ForeignKey("schemas.id")),
    # The query of a view.
    Column("definition", Text),
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

# Backups: what they name stays until they expire, although no version of this catalog may use it any more.
holds = Table(
    "holds",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("last_ref", BigInteger, nullable=False),
)

migrations = Table(
    "migrations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("report", JSON, nullable=False),
)
