"""Where searches get the rows of a dataset version from: the engine reads them, this package says which."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flight_server.domain.vector import Filter

Check: TypeAlias = Callable[[], None]
"""Raises what ends a search that nobody waits for any more, such as CallCancelledError."""

Floats: TypeAlias = NDArray[np.float32]
Ints: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]
Field: TypeAlias = "pa.Field[Any]"

OBJECT, ROW = "_object", "_row"
"""Columns of a scan that say where a row is: the id of its object, its number in that object."""


class Source(Protocol):
    """The rows of one dataset version; they never change."""

    @property
    def relation(self) -> str:
        """The version's name."""

    @property
    def schema(self) -> pa.Schema:
        """The version's columns."""

    @property
    def bucket(self) -> str:
        """The bucket of the dataset's namespace."""

    @property
    def objects(self) -> Mapping[int, tuple[str, str]]:
        """The live objects, (bucket, key) by id."""

    def scan(
        self, objects: Collection[int], columns: Sequence[str], where: Filter | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield columns of all rows of some objects, behind them `_object` and `_row`; in any order."""

    def fetch(self, objects: Ints, rows: Ints, columns: Sequence[str]) -> pa.Table:
        """Return columns of the rows at these places, in this order; a place may come twice."""

    def count(self, objects: Collection[int]) -> int:
        """Return how many rows some objects have, without reading them."""

    def mask(self, table: pa.Table, where: Filter) -> Mask:
        """Tell of each row of a table with the dataset's columns whether a filter lets it through."""


def dataset_id(source: Source) -> str:
    """Return the id of the dataset that a source is a version of."""
    return source.relation.partition("@")[0]


def patiently() -> None:
    """Wait for as long as it takes."""
