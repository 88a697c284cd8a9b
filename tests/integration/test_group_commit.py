"""Commits that wait together are made together, and each by itself."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from flight_server.catalog.store import Catalog
from flight_server.domain.dataset import ChangeMode, CommittedChange, DatasetChange, StoredObject
from flight_server.errors import AlreadyExistsError
from flight_server.services.commits import Committer

SCHEMA = pa.schema([("x", pa.int64())]).serialize().to_pybytes()
WRITERS = 200


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    opened = Catalog.open(f"sqlite:///{tmp_path / 'catalog.db'}")
    yield opened
    opened.close()


def change(mode: ChangeMode, number: int, name: str = "t") -> DatasetChange:
    stored = StoredObject(f"k{number}", 10, 100, "sha256:00")
    return DatasetChange("primary", name, "primary", mode, f"id{number}", None, SCHEMA, (stored,))


async def commit_all(
    catalog: Catalog, changes: list[DatasetChange]
) -> list[list[CommittedChange] | BaseException]:
    committer = Committer(catalog)
    try:
        waiting = (committer.commit([each], "p", "s") for each in changes)
        return await asyncio.gather(*waiting, return_exceptions=True)
    finally:
        committer.close()


def test_of_many_at_once_each_has_a_commit_and_a_version_of_its_own(catalog: Catalog) -> None:
    changes = [change(ChangeMode.CREATE_APPEND, number) for number in range(WRITERS)]
    made = [outcome[0] for outcome in asyncio.run(commit_all(catalog, changes)) if isinstance(outcome, list)]
    assert sorted(each.version for each in made) == list(range(1, WRITERS + 1))
    assert len({each.commit for each in made}) == WRITERS
    assert len(catalog.list_objects(made[0].dataset_id, WRITERS)) == WRITERS


def test_one_that_fails_takes_nothing_with_it(catalog: Catalog) -> None:
    changes = [change(ChangeMode.CREATE, number, f"t{number % 20}") for number in range(WRITERS)]
    outcomes = asyncio.run(commit_all(catalog, changes))
    failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert {type(each) for each in failed} == {AlreadyExistsError}
    assert len(outcomes) - len(failed) == len(catalog.list_names(catalog.newest_commit())) == 20


def test_a_caller_that_is_cancelled_waits_for_its_commit(catalog: Catalog) -> None:
    async def run() -> list[CommittedChange]:
        committer = Committer(catalog)
        try:
            work = asyncio.ensure_future(committer.commit([change(ChangeMode.CREATE, 1)], "p", "s"))
            await asyncio.sleep(0)
            work.cancel()
            return await work
        finally:
            committer.close()

    assert asyncio.run(run())[0].version == 1
