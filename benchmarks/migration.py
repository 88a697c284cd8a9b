"""The row about migrating a large catalog: seconds, and memory against a tenth of the refs."""

import json
from typing import Any

from benchmarks.bench import Bench
from benchmarks.measure import Measured
from benchmarks.processes import first_line, require_proc, running

_MB = 1e6


def migrate(bench: Bench) -> list[Measured]:
    """Migrate a catalog and one of a tenth of its size, each in a fresh process."""
    require_proc()
    refs = bench.sizes.refs
    small, large = _build_and_migrate(bench, refs // 10), _build_and_migrate(bench, refs)
    return [
        Measured(large["seconds"], f"{refs:,} refs; {small['seconds']:.2f} s for a tenth"),
        Measured(
            large["peak_bytes"] / small["peak_bytes"],
            f"{large['peak_bytes'] / _MB:.0f} MB / {small['peak_bytes'] / _MB:.0f} MB",
        ),
    ]


def _build_and_migrate(bench: Bench, refs: int) -> dict[str, Any]:
    file = str(bench.folder / f"catalog-{refs}.db")
    figures: dict[str, Any] = {}
    for work in ("build", "migrate"):
        with running("benchmarks.catalog_process", work, file, str(refs)) as process:
            figures = json.loads(first_line(process))
    return figures
