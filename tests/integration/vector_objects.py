"""Objects of a dataset in memory, for tests of searches: what the engine reads with DuckDB, read here too."""

from dataclasses import dataclass, field

import duckdb
import numpy as np
import pyarrow as pa

from flight_server.domain.vector import object_id

BUCKET = "profile:user"

_DUCKDB = duckdb.connect()


@dataclass
class MemoryObjects:
    """A dataset whose versions are sets of tables; `source` is a version as searches see it."""

    schema: pa.Schema
    tables: dict[int, pa.Table] = field(default_factory=dict)
    versions: int = 0

    def add(self, table: pa.Table) -> int:
        number = object_id(BUCKET, f"{id(self)}/{len(self.tables)}")
        self.tables[number] = table.cast(self.schema)
        return number

    def source(self, live=None) -> "MemorySource":
        self.versions += 1
        numbers = list(self.tables if live is None else live)
        return MemorySource(self, f"{id(self)}@{self.versions}", numbers)


class MemorySource:
    def __init__(self, dataset: MemoryObjects, relation: str, live: list[int]) -> None:
        self.dataset, self.relation, self.schema, self.bucket = dataset, relation, dataset.schema, BUCKET
        self.objects = {number: (BUCKET, str(number)) for number in live}
        self.scanned = 0

    def scan(self, objects, columns, where=None):
        for number in objects:
            table = self.dataset.tables[number]
            if not table.num_rows:
                continue
            rows = np.arange(table.num_rows)
            if where is not None:
                rows = rows[self.mask(table, where)]
            self.scanned += len(rows)
            part = table.take(pa.array(rows))
            part = part.append_column("_object", pa.array(np.full(len(rows), number, np.int64)))
            part = part.append_column("_row", pa.array(rows, pa.int64())).combine_chunks()
            yield from part.select([*columns, "_object", "_row"]).to_batches()

    def fetch(self, objects, rows, columns):
        parts = [
            self.dataset.tables[int(number)].slice(int(row), 1).select(list(columns))
            for number, row in zip(objects, rows, strict=True)
        ]
        empty = pa.schema([self.schema.field(name) for name in columns]).empty_table()
        return pa.concat_tables([empty, *parts])

    def count(self, objects):
        return sum(self.dataset.tables[number].num_rows for number in objects)

    def mask(self, table, where):
        with _DUCKDB.cursor() as cursor:
            cursor.register("rows_to_filter", table)
            query = f"SELECT coalesce({where.sql}, false) AS holds FROM rows_to_filter"
            return np.asarray(cursor.sql(query).to_arrow_table()["holds"].to_numpy(), bool)
