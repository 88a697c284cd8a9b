"""Vector search as values: metrics, kinds of index, what a search asks for, records of indexes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256


class Metric(StrEnum):
    """How far two vectors are apart; `_distance` is small when they are near.

    As in LanceDB: cosine = 1 - cos(a, b); l2 = the squared Euclidean distance; dot = 1 - a·b.
    """

    COSINE = "cosine"
    L2 = "l2"
    DOT = "dot"


class IndexKind(StrEnum):
    """Kinds of index, in LanceDB's words; `auto` chooses one by the number of rows."""

    AUTO = "auto"
    HNSW_SQ = "hnsw_sq"
    HNSW_FLAT = "hnsw_flat"
    IVF_RQ = "ivf_rq"
    IVF_SQ = "ivf_sq"
    IVF_PQ = "ivf_pq"
    IVF_FLAT = "ivf_flat"
    FTS = "fts"


class Tier(StrEnum):
    """What answers a search: vectors in memory, an index, or a scan of the objects."""

    EXACT = "exact"
    INDEX = "index"
    SCAN = "scan"


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """What a search asks for beside its query; None leaves the index's own default.

    `metric` None is the index's, else cosine; `is_exact` searches without an index.
    """

    k: int = 10
    ef: int | None = None
    nprobes: int | None = None
    refine: int | None = None
    metric: Metric | None = None
    is_exact: bool = False


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on columns, written anew from its parse: once for DuckDB, once for Lance."""

    sql: str
    lance: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IndexRecord:
    """What the catalog knows of an index: the Lance table that holds it and how it was built.

    `table` lies in folder `vectors/` of the bucket and is read at `lance_version`. `params` are those of the
    build, `search` the defaults of searches (ef, nprobes, refine). `dataset_version` is what it was last
    brought up to.
    """

    id: str
    dataset_id: str
    bucket: str
    column: str
    kind: IndexKind
    metric: Metric
    table: str
    lance_version: int
    dataset_version: int
    rows: int
    dim: int
    bytes: int
    params: Mapping[str, object] = field(default_factory=dict)
    search: Mapping[str, int] = field(default_factory=dict)

    @property
    def measure(self) -> dict[str, object]:
        """How it compares, for people: metric and dimension, None for an index of texts."""
        is_text = self.kind is IndexKind.FTS
        return {"metric": None if is_text else self.metric, "dim": None if is_text else self.dim}


def object_id(bucket: str, key: str) -> int:
    """Return the number that stands for an object in an index; objects never change, so it never does."""
    return int.from_bytes(sha256(f"{bucket}\0{key}".encode()).digest()[:8], "big", signed=True)
