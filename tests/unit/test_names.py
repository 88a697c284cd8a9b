"""Names that statements hold: what is remembered of them."""

from typing import Any

from flight_server.domain.bucket import BucketRegistry
from flight_server.domain.staging import Snapshot
from flight_server.services.resolution import MAX_NAME_LENGTH, Names


class _Catalog:
    """Has no datasets, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def newest_commit(self) -> int:
        return 1

    def find_dataset(self, *_: object) -> None:
        self.asked += 1


def test_names_too_long_for_a_table_take_no_memory() -> None:
    catalog: Any = _Catalog()
    tables: Any = None
    names = Names(catalog, BucketRegistry(()), tables)
    for length, asked in ((MAX_NAME_LENGTH, 1), (MAX_NAME_LENGTH + 1, 2)):
        catalog.asked = 0
        for _ in range(2):
            assert names.find(("primary",), "n" * length, Snapshot(1)) is None
        assert catalog.asked == asked
