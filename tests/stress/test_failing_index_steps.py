"""Each operation on storage of building an index, or catching up, fails in turn."""

import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from flight_server.domain import faults
from flight_server.domain.vector import Tier
from flight_server.errors import LakehouseError
from flight_server.frames.vectors import encode_index
from tests.integration.test_vector_requests import BUCKET, Process

pytestmark = [pytest.mark.stress, pytest.mark.timeout(120)]

SAID = {
    errno.EIO: f"bucket {BUCKET} cannot be used: Input/output error",
    errno.ENOSPC: f"bucket {BUCKET} has no space left",
}


def failing(number: int, error: int) -> Callable[[], None]:
    """Return what fails when it is called for the n-th time."""
    calls = itertools.count(1)

    def operate() -> None:
        if next(calls) == number:
            raise OSError(error, os.strerror(error))

    return operate


@pytest.mark.parametrize("error", SAID)
@pytest.mark.parametrize(("step", "least"), [("build_index", 3), ("update_index", 5)])
def test_the_failure_of_any_operation_leaves_the_index_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, least: int, error: int
) -> None:
    for module in ("activation", "search"):
        monkeypatch.setattr(f"flight_server.vectors.{module}.EXACT_ROWS", 100)
    process = Process(tmp_path)
    process.write("a.parquet", 0, 1_200)
    (built, _), _ = process.build({"d@1": process.relation("a.parquet")})
    record = process.record(built)
    process.write("b.parquet", 1_200, 200)
    both = process.relation("a.parquet", "b.parquet")

    def work() -> int:
        if step == "build_index":
            (built, _), _ = process.build({"d@2": both}, table="i2")
        else:
            (built, _), _ = process.ask(
                step, {"d@2": both}, dataset_id="d", record=encode_index(record), anew="i2"
            )
        return int(built.fields["rows"])

    for number in itertools.count(1):
        with monkeypatch.context() as patched:
            patched.setattr(faults, "operate", failing(number, error))
            rows, refused = None, None
            try:
                rows = work()
            except LakehouseError as failure:
                refused = failure.message
        if refused is None:
            break
        assert refused == SAID[error]
        assert {path.name.partition(".")[0] for path in (process.root / "vectors").iterdir()} == {"i1"}
        for row in (number, 1_199 - number):
            found = process.nearest("d@2", both, row, [record])
            assert (found[0]["id"], round(found[0]["_distance"], 5)) == (row, 0)
        assert [row["tier"] for row in process.activations.rows()] == [Tier.INDEX]
        process.activations.deactivate(BUCKET)  # so that what is searched next is opened anew
    assert rows == 1_400
    assert number > least
