"""What rows measure with: the servers, their data, and a plain DuckDB; made when first asked for."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote, urlsplit

import duckdb
import pyarrow as pa
import pyarrow.flight as fl
from adbc_driver_flightsql import dbapi

from benchmarks import plain_duckdb
from benchmarks.datasets import SOURCES
from benchmarks.processes import family, first_line, running
from benchmarks.sizes import Sizes
from flight_server import config, testing
from flight_server.catalog.store import Catalog


class Bench:
    """Owns everything that is started for a run; closing the stack stops all of it."""

    def __init__(self, sizes: Sizes, stack: ExitStack) -> None:
        self.sizes = sizes
        self.stack = stack
        self._uploaded: dict[str, list[str]] = {}

    @cached_property
    def folder(self) -> Path:
        """A temporary folder for files of the bench's own."""
        return Path(self.stack.enter_context(TemporaryDirectory(prefix="benchmarks-")))

    @cached_property
    def server(self) -> testing.Server:
        """The measured server, with its default settings."""
        return self.stack.enter_context(testing.serve(telemetry={"log_level": "warning"}))

    @cached_property
    def server_processes(self) -> list[int]:
        """Process ids of the gateway and its engine processes."""
        return family(self.server.process.pid)

    @cached_property
    def floor_uri(self) -> str:
        """Where the floor server answers."""
        return first_line(self.stack.enter_context(running("benchmarks.floor_server")))

    def plain_uri(self, *names: str) -> str:
        """Start a plain Flight server over some datasets."""
        views = json.dumps(self.views(*names))
        return first_line(self.stack.enter_context(running("benchmarks.plain_server", views)))

    def flight(self, uri: str) -> fl.FlightClient:
        """Connect a `pyarrow.flight` client."""
        return self.stack.enter_context(fl.connect(uri))

    def adbc(self, uri: str) -> dbapi.Cursor:
        """Open an ADBC connection and a cursor on it."""
        connection = self.stack.enter_context(dbapi.connect(uri, autocommit=True))
        return self.stack.enter_context(connection.cursor())

    def in_process(self, *names: str) -> duckdb.DuckDBPyConnection:
        """Open a plain DuckDB over the objects of some datasets."""
        return self.stack.enter_context(plain_duckdb.connect(self.views(*names)))

    def views(self, *names: str) -> dict[str, list[str]]:
        """Upload datasets that are not there yet; return their objects by `bucket.dataset`."""
        return {f"{SOURCES[name].bucket}.{name}": self._objects_of(name) for name in names}

    def upload(self, bucket: str, name: str, data: pa.Table | pa.RecordBatchReader) -> None:
        """Append data to a dataset, which need not exist."""
        with dbapi.connect(self.server.uri, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.adbc_ingest(name, data, mode="create_append", db_schema_name=bucket)

    def objects(self, bucket: str, name: str) -> list[str]:
        """Return the paths of a dataset's objects."""
        with self._catalog() as catalog:
            dataset = catalog.find_dataset([bucket], name, catalog.newest_commit())
            if dataset is None:
                raise RuntimeError(f"the server has no dataset {bucket}.{name}")
            refs = catalog.list_objects(dataset.id, dataset.version)
            return [f"{self._roots[ref.bucket]}/{ref.key}" for ref in refs]

    def indexes(self, bucket: str) -> dict[str, str]:
        """Return the paths of the Lance tables of a bucket's indexes by their kind."""
        with self._catalog() as catalog:
            records = [record for record, _ in catalog.vectors.all_indexes(bucket)]
        return {str(record.kind): f"{self._roots[bucket]}/vectors/{record.table}" for record in records}

    @property
    def _settings(self) -> config.Settings:
        return config.load(None, {"data_dir": str(self.server.data_dir)})

    @property
    def _roots(self) -> dict[str, str]:
        return {found.name: unquote(urlsplit(found.uri).path) for found in self._settings.registry()}

    @contextmanager
    def _catalog(self) -> Iterator[Catalog]:
        with closing(Catalog.open(self._settings.catalog_url)) as catalog:
            yield catalog

    def _objects_of(self, name: str) -> list[str]:
        if name not in self._uploaded:
            source = SOURCES[name]
            for data in source.uploads(self.sizes):
                self.upload(source.bucket, name, data)
            self._uploaded[name] = self.objects(source.bucket, name)
        return self._uploaded[name]
