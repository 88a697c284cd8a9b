"""What gateway and engine process tell each other about vectors.

| request | fields | payload | answers |
|---|---|---|---|
| activate | bucket, datasets (table, relation, records), wait | schemas | activated…, end |
| deactivate | bucket | | deactivated (entries, bytes) |
| activations | | | active (rows) |
| build_index | bucket, dataset_id, column, kind, metric, params, table | schemas | progress, built |
| update_index | bucket, dataset_id, record, anew | schemas | progress, built |
| drop_index | bucket, table | | dropped |
| embed | bucket, dataset_id, text_column, vector_column, embedder | schemas | progress, stored |
| truth | bucket, metric, k | schemas, queries | progress, measured (truth) |
| trial | bucket, kind, metric, params, search, k, table, eval_set, … | schemas | progress, measured |
| journal_row | bucket, trial_id | schemas | measured |
| exchange | bucket, records, arguments, timeout | schemas | data…, end |

Where the payload holds schemas, `relations` are described as in the answer to `describe`; what else there is
comes after the schemas, as Arrow IPC streams. All but `activate` bring one, and its name as `relation`.
`activated` tells what one index or column has in memory; without `wait` it is loaded in the background and
not told of. `progress` tells a `phase` and how much is `done`, 0 to 1, or how many `rows` are. What was
`built` or `stored` the gateway answers with `keep` or `discard`; what `is_anew` is in the table `anew`.
`measured` holds rows of a journal, and exact answers that had to be computed; in `trial` the eval set and
its truth are named as relations.
After `exchange` the gateway sends the client's messages as `data` and then `finish`, as for an upload.
While a statement runs the engine process may ask for `indexes` (relation → records): those that the dataset
has at the newest commit, with the names that their columns have in the relation.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flight_server.domain.vector import IndexKind, IndexRecord, Metric
from flight_server.frames.frame import Frame, with_parts
from flight_server.frames.requests import Relation, encode_relations


def encode_index(record: IndexRecord) -> dict[str, Any]:
    """Return a record of an index as the JSON of a frame."""
    return asdict(record)


def decode_index(encoded: dict[str, Any]) -> IndexRecord:
    """Read a record of an index."""
    kind, metric = IndexKind(encoded["kind"]), Metric(encoded["metric"])
    return IndexRecord(**encoded | {"kind": kind, "metric": metric})


def encode_indexes(records: Iterable[IndexRecord]) -> list[dict[str, Any]]:
    """Answer `indexes`."""
    return [encode_index(record) for record in records]


def decode_indexes(encoded: Iterable[dict[str, Any]]) -> Sequence[IndexRecord]:
    """Read the answer to `indexes`."""
    return tuple(decode_index(item) for item in encoded)


@dataclass(frozen=True, slots=True)
class BuiltIndex:
    """What an engine process says of an index that it has built; `bytes` are those of memory."""

    column: str
    kind: IndexKind
    metric: Metric
    params: Mapping[str, object]
    lance_version: int
    rows: int
    dim: int
    bytes: int
    seconds: float
    is_anew: bool


def decode_built(frame: Frame) -> BuiltIndex:
    """Read the answer to `build_index` or `update_index`."""
    fields = frame.fields
    return BuiltIndex(**fields | {"kind": IndexKind(fields["kind"]), "metric": Metric(fields["metric"])})


def about(
    kind: str, relations: Mapping[str, Relation], fields: Mapping[str, Any], extra: Sequence[bytes] = ()
) -> Frame:
    """Build a request about relations; `extra` parts come after those of the schemas."""
    described = encode_relations(relations)
    return with_parts(kind, described.fields | dict(fields), [*described.parts(), *extra])
