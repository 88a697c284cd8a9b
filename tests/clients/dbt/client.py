"""Run dbt's commands over a project that reads; print what each gave, one JSON object a line."""

import json
import os
import sys
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dbt.cli.main import dbtRunner

from tests.clients.report import show

PROJECT = Path(__file__).parent / "project"

os.environ["FLIGHT_SQL_PORT"] = str(urlsplit(sys.argv[1]).port)
scratch = tempfile.TemporaryDirectory(prefix="dbt-")
target = Path(scratch.name)
folders = ["--project-dir", PROJECT, "--profiles-dir", PROJECT]


def dbt(*words: str) -> Any:
    """Run a command; return its result. Raises RuntimeError with what it said when it failed."""
    said = StringIO()
    arguments = ["--log-path", target, "--no-use-colors", *words, *folders]
    with redirect_stdout(said):
        done = dbtRunner().invoke([str(argument) for argument in arguments])
    if done.exception or not done.success:
        raise RuntimeError(done.exception or said.getvalue())
    return done.result


def rows(*words: str) -> list[dict[str, Any]]:
    (result,) = dbt("show", "--target-path", str(target), *words).results
    return [dict(zip(result.agate_table.column_names, row, strict=True)) for row in result.agate_table.rows]


def states(*words: str) -> dict[str, str]:
    done = dbt(*words, "--target-path", str(target))
    return {result.node.name: str(result.status) for result in done.results}


def compiled() -> str:
    dbt("compile", "--target-path", str(target))
    return (target / "compiled/reading/models/owners.sql").read_text().strip()


def documented() -> dict[str, Any]:
    """Read dbt's catalog: the tables of the sources, their types and columns."""
    dbt("docs", "generate", "--target-path", str(target))
    found = json.loads((target / "catalog.json").read_text())["sources"]
    return {
        name: [table["metadata"]["type"], {key: column["type"] for key, column in table["columns"].items()}]
        for name, table in found.items()
    }


show("debug", lambda: dbt("debug"))
show("compile", compiled)
show("show a model", lambda: rows("--select", "owners"))
show("show SQL", lambda: rows("--inline", "select count(*) as n from {{ source('zoo', 'animals') }}"))
show("test", lambda: states("test"))
show("source freshness", lambda: states("source", "freshness"))
show("docs", documented)
scratch.cleanup()
