"""A process that builds or migrates a large catalog of aliases and legacy URLs.

Arguments: `build` or `migrate`, the catalog's file, the number of refs. It prints JSON: seconds, and
the peak of its resident memory in bytes.
"""

import json
import sys
import time
from datetime import UTC, datetime

from benchmarks.processes import peak_resident_bytes
from flight_server.catalog.store import Catalog
from flight_server.domain.bucket import Bucket, BucketRegistry
from flight_server.domain.dataset import ImportedDataset, ObjectRef

_REFS_EACH = 1_000
_WRITTEN = (("data", ""), ("", ""), ("local", ""), ("primary", ""), ("data", "lakehouse://testing/"))
"""Bucket fields and beginnings of keys as old catalogs have them; each ref gets one in turn."""
_REGISTRY = BucketRegistry(
    [Bucket("primary", "file:///primary", ("", "data", "local")), Bucket("testing", "file:///testing")]
)


def _build(catalog: Catalog, refs: int) -> None:
    catalog.import_datasets([_dataset(number) for number in range(refs // _REFS_EACH)], "benchmark")


def _dataset(number: int) -> ImportedDataset:
    objects = []
    for part in range(_REFS_EACH):
        bucket, head = _WRITTEN[part % len(_WRITTEN)]
        key = f"{head}dataset-{number}/part-{part:06}.parquet"
        objects.append(ObjectRef(bucket, key, 1_000, 100_000, None, managed=False))
    created = datetime(2024, 1, 1, tzinfo=UTC)
    return ImportedDataset(f"id-{number}", "primary", f"dataset_{number}", created, tuple(objects))


def _migrate(catalog: Catalog, refs: int) -> None:
    report = catalog.migrate(_REGISTRY, dry_run=False)
    assert report["total"] == refs


_WORK = {"build": _build, "migrate": _migrate}


def main(work: str, file: str, refs: str) -> None:
    """Do the work and print its figures."""
    catalog = Catalog.open(f"sqlite:///{file}")
    began = time.perf_counter()
    _WORK[work](catalog, int(refs))
    took = time.perf_counter() - began
    catalog.close()
    print(json.dumps({"seconds": took, "peak_bytes": peak_resident_bytes()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
