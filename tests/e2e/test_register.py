"""Objects that lie in a bucket already become part of a dataset, where they are."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.parquet as pq
import pytest

from flight_server.testing import Server
from tests import flight_sql


def act(client: Any, action: str, **body: Any) -> dict[str, Any]:
    (result,) = client.do_action(flight.Action(action, json.dumps(body).encode()))
    answer: dict[str, Any] = json.loads(result.body.to_pybytes())
    return answer


def rows(client: Any, sql: str) -> list[dict[str, Any]]:
    return flight_sql.query(client, sql).to_pylist()


def files(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def folder(server: Server, unique_name: str) -> Path:
    made = server.data_dir / "_testing" / unique_name
    made.mkdir(parents=True)
    return made


def write(path: Path, **columns: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def test_partitioned_folders_become_columns(flight: Any, folder: Path, unique_name: str) -> None:
    write(folder / "year=2023/day=2023-05-01/city=Den%20Haag/a.parquet", id=[1], year=["file's own"])
    write(folder / "year=2024/day=2024-06-02/city=__HIVE_DEFAULT_PARTITION__/b.parquet", year=["x"], id=[2])
    (folder / "_SUCCESS").touch()
    write(folder / "_temporary/year=1/day=1/city=1/c.parquet", other=[3])
    before = files(folder)
    result = act(flight, "register", bucket="testing", dataset=unique_name, keys=[unique_name])
    assert (result["version"], result["rows"], result["objects"]) == (1, 2, 2)
    found = flight_sql.query(flight, f"SELECT * FROM testing.{unique_name} WHERE year > 2000 ORDER BY id")
    assert list(map(str, found.schema.types)) == ["int64", "int64", "date32[day]", "string"]
    assert [(row["year"], str(row["day"]), row["city"]) for row in found.to_pylist()] == [
        (2023, "2023-05-01", "Den Haag"),
        (2024, "2024-06-02", None),
    ]
    act(
        flight,
        "register",
        bucket="testing",
        dataset=unique_name,
        keys=[f"{unique_name}/year=2023"],
        mode="replace",
    )
    assert rows(flight, f"SELECT id, year FROM testing.{unique_name}") == [{"id": 1, "year": 2023}]
    assert files(folder) == before


def test_modes_and_repetitions(flight: Any, folder: Path, unique_name: str) -> None:
    write(folder / "a.parquet", id=[1])
    write(folder / "b.parquet", id=pa.array([2], pa.int32()))
    asked = {"bucket": "testing", "dataset": unique_name}
    first, second = f"{unique_name}/a.parquet", f"{unique_name}/b.parquet"
    with pytest.raises(pa.ArrowKeyError, match="to append to"):
        act(flight, "register", **asked, keys=[first], mode="append")
    act(flight, "register", **asked, keys=[first], mode="create")
    for mode in ("create", "append"):
        with pytest.raises(pa.ArrowException, match="already"):
            act(flight, "register", **asked, keys=[first], mode=mode)
    assert act(flight, "register", **asked, keys=[second])["version"] == 2
    assert rows(flight, f"SELECT sum(id) AS s FROM testing.{unique_name}") == [{"s": 3}]


def test_other_columns_are_explained(flight: Any, folder: Path, unique_name: str) -> None:
    write(folder / "a.parquet", id=[1])
    write(folder / "b.parquet", id=["x"], more=[1])
    with pytest.raises(
        pa.ArrowInvalid, match=r"b\.parquet: column 'more' is not .*'id' is int64, the object has"
    ):
        act(flight, "register", bucket="testing", dataset=unique_name, keys=[unique_name])
    write(folder / "year=1/c.parquet", id=[1])
    with pytest.raises(pa.ArrowInvalid, match=r"partitioned by nothing .* by year"):
        act(flight, "register", bucket="testing", dataset=unique_name, keys=[unique_name])


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        (["../primary/x.parquet"], pa.ArrowInvalid, "stay inside"),
        (["/etc/passwd"], pa.ArrowInvalid, "stay inside"),
        (["_objects"], pa.ArrowInvalid, "the server's own"),
        (["nothing/here", "nor-here.parquet"], pa.ArrowKeyError, "nothing/here, nor-here.parquet"),
        (["link"], pa.ArrowKeyError, "no Parquet objects under: link"),
        ([], pa.ArrowInvalid, "needs 'keys'"),
    ],
)
def test_keys_stay_inside_and_lead_to_objects(
    server: Server, flight: Any, unique_name: str, keys: list[str], error: Any, message: str
) -> None:
    outside = server.data_dir / "outside"
    write(outside / "secret.parquet", id=[1])
    link = server.data_dir / "_testing/link"
    if not link.is_symlink():
        link.symlink_to(outside)
    with pytest.raises(error, match=message) as caught:
        act(flight, "register", bucket="testing", dataset=unique_name, keys=keys)
    assert str(server.data_dir) not in str(caught.value)


def test_what_is_no_parquet_is_refused(flight: Any, folder: Path, unique_name: str) -> None:
    (folder / "a.parquet").write_text("text")
    with pytest.raises(pa.ArrowException, match="is not Parquet"):
        act(flight, "register", bucket="testing", dataset=unique_name, keys=[unique_name])
