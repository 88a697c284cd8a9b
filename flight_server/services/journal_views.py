"""`sys.trials` and `sys.eval_sets`: views over datasets of the profiles that a caller may read."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import TypeAlias

import pyarrow as pa

from flight_server.domain import declarations
from flight_server.domain.bucket import PROFILE_PREFIX
from flight_server.domain.dataset import CATALOG, Dataset, DatasetFilter, Kind
from flight_server.domain.identity import Identity
from flight_server.domain.staging import Snapshot
from flight_server.domain.trial import (
    EVAL_QUERIES,
    EVAL_SETS,
    EVAL_TRUTH,
    QUERIES_DATASET,
    TRIALS,
    TRIALS_DATASET,
    TRUTH_DATASET,
)
from flight_server.services.listing import datasets
from flight_server.services.resolution import Names
from flight_server.services.system_tables import SYSTEM_SCHEMA

_TYPES = {"string": "VARCHAR", "int64": "BIGINT", "double": "DOUBLE", "bool": "BOOLEAN"}

_EVAL_SETS = """
SELECT {profile} AS profile, eval_set, eval_set_version, table_name, "column", distance_type, num_queries, k,
    created_at, dataset_version, table_version, coalesce(dataset_version <> table_version, true) AS stale
FROM (
    SELECT eval_set, eval_set_version, min(table_name) AS table_name, count(*) AS num_queries,
        min(created_at) AS created_at
    FROM {queries} GROUP BY eval_set, eval_set_version
    QUALIFY row_number() OVER (PARTITION BY eval_set ORDER BY eval_set_version DESC) = 1
)
LEFT JOIN (
    SELECT eval_set, eval_set_version, "column", distance_type, max(k) AS k,
        arg_max(dataset_id, created_at) AS dataset_id, arg_max(dataset_version, created_at) AS dataset_version
    FROM {truth} GROUP BY eval_set, eval_set_version, "column", distance_type
) USING (eval_set, eval_set_version)
LEFT JOIN (VALUES {tables}) present(dataset_id, table_version) USING (dataset_id)
"""

_View: TypeAlias = Callable[[Names, Snapshot, tuple[str, ...]], Iterator[str]]


def journal_view(name: str, names: Names, identity: Identity, snapshot: Snapshot) -> Dataset:
    """Return one of the views; a table of another shape that is called like a journal is left out."""
    schema, parts = JOURNAL_VIEWS[name]
    profiles = tuple(bucket.name for bucket in names.visible(identity) if bucket.is_profile)
    definition = (
        " UNION ALL ".join(parts(names, snapshot, profiles)) or f"SELECT {_nulls(schema)} WHERE false"
    )
    digest = sha256(definition.encode()).hexdigest()[:32]
    return Dataset(
        f"{name}.{digest}",
        SYSTEM_SCHEMA,
        name.partition(".")[2],
        0,
        snapshot.commit,
        schema.serialize().to_pybytes(),
        Kind.VIEW,
        definition,
    )


def _trials(names: Names, snapshot: Snapshot, profiles: tuple[str, ...]) -> Iterator[str]:
    columns = ", ".join(_quoted(name) for name in TRIALS.names)
    for each in _owned(names, snapshot, profiles, TRIALS_DATASET, TRIALS):
        yield f"SELECT {columns} FROM {_path(each.namespace, TRIALS_DATASET)}"  # noqa: S608 - quoted


def _eval_sets(names: Names, snapshot: Snapshot, profiles: tuple[str, ...]) -> Iterator[str]:
    queries = _owned(names, snapshot, profiles, QUERIES_DATASET, EVAL_QUERIES)
    truth = _owned(names, snapshot, profiles, TRUTH_DATASET, EVAL_TRUTH)
    owners = {each.namespace for each in queries} & {each.namespace for each in truth}
    present: dict[str, list[str]] = {}
    for each in datasets(names, snapshot, DatasetFilter(tuple(sorted(owners)))):
        present.setdefault(each.namespace, []).append(f"({_text(each.id)}, CAST({each.version} AS BIGINT))")
    for namespace, tables in present.items():
        yield _EVAL_SETS.format(
            profile=_text(namespace.removeprefix(PROFILE_PREFIX)),
            queries=_path(namespace, QUERIES_DATASET),
            truth=_path(namespace, TRUTH_DATASET),
            tables=", ".join(tables),
        )


def _owned(
    names: Names, snapshot: Snapshot, profiles: tuple[str, ...], name: str, schema: pa.Schema
) -> Sequence[Dataset]:
    """Return the tables of a name that have the columns of our own."""
    return [
        each
        for each in datasets(names, snapshot, DatasetFilter(profiles, name))
        if each.name == name and each.kind == Kind.TABLE and each.schema is not None
        if {*schema.names} <= {*declarations.read(each.schema).names}
    ]


def _nulls(schema: pa.Schema) -> str:
    kinds = ((field.name, _TYPES.get(str(field.type), "TIMESTAMPTZ")) for field in schema)
    return ", ".join(f"CAST(NULL AS {kind}) AS {_quoted(name)}" for name, kind in kinds)


def _path(namespace: str, name: str) -> str:
    return f"{CATALOG}.{_quoted(namespace)}.{_quoted(name)}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


JOURNAL_VIEWS: Mapping[str, tuple[pa.Schema, _View]] = {
    f"{SYSTEM_SCHEMA}.{TRIALS_DATASET}": (TRIALS, _trials),
    f"{SYSTEM_SCHEMA}.eval_sets": (EVAL_SETS, _eval_sets),
}
"""Qualified name → the columns of a view, and what writes the queries that it is made of."""
