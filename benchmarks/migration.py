"""The row about migrating a large catalog: seconds, and memory against a tenth of the refs."""

import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.measure import Measured
from flight_server.catalog.store import Catalog
from flight_server.domain.bucket import Bucket, BucketRegistry
from flight_server.domain.dataset import ImportedDataset, ObjectRef

_REFS_EACH = 1_000
_WRITTEN = (("data", ""), ("", ""), ("local", ""), ("primary", ""), ("data", "lakehouse://testing/"))
"""Bucket fields and beginnings of keys of old catalogs; each ref gets one in turn."""
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024
_MB = 1e6


def migrate(bench: Bench) -> list[Measured]:
    """Migrate a catalog of aliases and legacy URLs, each time in a fresh process."""
    refs = bench.sizes.refs
    small, large = _build_and_migrate(bench, refs // 10), _build_and_migrate(bench, refs)
    return [
        Measured(large[0], f"{refs:,} refs; {small[0]:.2f} s for a tenth"),
        Measured(
            large[1] / small[1], f"{large[1] / _MB:.0f} MB / {small[1] / _MB:.0f} MB at a tenth of the refs"
        ),
    ]


def _build_and_migrate(bench: Bench, refs: int) -> tuple[float, float]:
    file = bench.folder / f"catalog-{refs}.db"
    for work in (_build, _migrate):
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            result = pool.submit(work, file, refs).result()
    return result


def _build(file: Path, refs: int) -> tuple[float, float]:
    catalog = Catalog.open(f"sqlite:///{file}")
    catalog.import_datasets([_dataset(number) for number in range(refs // _REFS_EACH)], "benchmark")
    catalog.close()
    return 0.0, 0.0


def _dataset(number: int) -> ImportedDataset:
    objects = []
    for part in range(_REFS_EACH):
        bucket, head = _WRITTEN[part % len(_WRITTEN)]
        key = f"{head}dataset-{number}/part-{part:06}.parquet"
        objects.append(ObjectRef(bucket, key, 1_000, 100_000, None, managed=False))
    created = datetime(2024, 1, 1, tzinfo=UTC)
    return ImportedDataset(f"id-{number}", "primary", f"dataset_{number}", created, None, tuple(objects))


def _migrate(file: Path, refs: int) -> tuple[float, float]:
    """Return seconds and the peak of resident memory, in bytes."""
    registry = BucketRegistry(
        [Bucket("primary", "file:///primary", ("", "data", "local")), Bucket("testing", "file:///testing")]
    )
    catalog = Catalog.open(f"sqlite:///{file}")
    began = time.perf_counter()
    report = catalog.migrate(registry, dry_run=False)
    took = time.perf_counter() - began
    catalog.close()
    assert report["total"] == refs
    return took, float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT)
