"""`sys.trials`: a view over the journals of the profiles that a caller may read."""

from hashlib import sha256

from flight_server.domain import declarations
from flight_server.domain.dataset import CATALOG, Dataset, DatasetFilter, Kind
from flight_server.domain.identity import Identity
from flight_server.domain.staging import Snapshot
from flight_server.domain.trial import TRIALS, TRIALS_DATASET
from flight_server.services.resolution import Names
from flight_server.services.system_tables import SYSTEM_SCHEMA

TRIALS_TABLE = f"{SYSTEM_SCHEMA}.{TRIALS_DATASET}"

_TYPES = {"string": "VARCHAR", "int64": "BIGINT", "double": "DOUBLE"}


def trial_view(names: Names, identity: Identity, snapshot: Snapshot) -> Dataset:
    """Return the view; a table of another shape that is called like a journal is left out."""
    profiles = tuple(bucket.name for bucket in names.visible(identity) if bucket.is_profile)
    found = names.catalog.list_datasets(snapshot.commit, DatasetFilter(profiles, TRIALS_DATASET))
    columns = ", ".join(_quoted(name) for name in TRIALS.names)
    parts = [
        f"SELECT {columns} FROM {CATALOG}.{_quoted(each.namespace)}.{_quoted(each.name)}"  # noqa: S608 - quoted
        for each in found
        if _is_journal(each)
    ]
    definition = " UNION ALL ".join(parts) or f"SELECT {_nulls()} WHERE false"
    digest = sha256(definition.encode()).hexdigest()[:32]
    return Dataset(
        f"{TRIALS_TABLE}.{digest}",
        SYSTEM_SCHEMA,
        TRIALS_DATASET,
        0,
        snapshot.commit,
        TRIALS.serialize().to_pybytes(),
        Kind.VIEW,
        definition,
    )


def _is_journal(dataset: Dataset) -> bool:
    if dataset.kind != Kind.TABLE or dataset.schema is None or dataset.name != TRIALS_DATASET:
        return False
    return {*TRIALS.names} <= {*declarations.read(dataset.schema).names}


def _nulls() -> str:
    kinds = ((field.name, _TYPES.get(str(field.type), "TIMESTAMPTZ")) for field in TRIALS)
    return ", ".join(f"CAST(NULL AS {kind}) AS {_quoted(name)}" for name, kind in kinds)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
