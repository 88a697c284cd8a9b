"""The demo's second part: texts of which the server makes vectors, searched by what they mean."""

import shlex
import sys
from contextlib import closing

import click
import pyarrow as pa
from adbc_driver_flightsql import dbapi
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from flight_server.cli import connection
from flight_server.cli.diagnoses import read_diagnoses

QUERY = """\
SELECT v.code, v.text, c.title AS chapter, CAST(v._distance AS DECIMAL(4, 3)) AS distance
FROM vector_search('diagnoses', 'high blood sugar', k => 5) v
JOIN testing.chapters c USING (chapter)
ORDER BY v._distance"""

_CREATE = 'CREATE TABLE IF NOT EXISTS "profile:user".diagnoses (code VARCHAR, text VARCHAR, chapter BIGINT)'
_PROFILE_HEADER = "adbc.flight.sql.rpc.call_header.x-lakehouse-profile"
_BATCH_ROWS = 4_096


def show_search(console: Console, uri: str) -> None:
    """Load the diagnoses with vectors of their texts, activate the profile, search.

    Raises click.ClickException when the server refuses something.
    """
    options = {_PROFILE_HEADER: "user"}
    with closing(dbapi.connect(uri, db_kwargs=options, autocommit=True)) as client, client.cursor() as cursor:
        _load(console, uri, cursor)
        _activate(console, uri)
        cursor.execute(QUERY)
        _show(console, cursor.fetch_arrow_table())


def search_lines(host: str, port: int) -> dict[str, str]:
    """Return for each client what searches for texts of one's own: a line for a shell, settings for JDBC."""
    search = (
        "SELECT v.code, v.text, c.title FROM vector_search('diagnoses', ?, k => 3) v "
        "JOIN testing.chapters c USING (chapter) ORDER BY v._distance"
    )
    adbc = (
        "from adbc_driver_flightsql.dbapi import connect; "
        f"options = {{{_PROFILE_HEADER!r}: 'user'}}; "
        f"cursor = connect('grpc://{host}:{port}', options, autocommit=True).cursor(); "
        f"cursor.execute({search!r}, ['cannot sleep']); print(*cursor.fetchall(), sep='\\n')"
    )
    url = f"jdbc:arrow-flight-sql://{host}:{port}/?useEncryption=false&x-lakehouse-profile=user"
    return {
        "ADBC, a search": f"{shlex.quote(sys.executable)} -c {shlex.quote(adbc)}",
        "JDBC, a search": f"{url}\n{search.replace('?', 'CAST(? AS VARCHAR)')}",
    }


def _load(console: Console, uri: str, cursor: dbapi.Cursor) -> None:
    diagnoses, chapters = read_diagnoses()
    total = diagnoses.num_rows
    columns = (TextColumn("{task.description:32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task('"profile:user"."diagnoses"', total=total)
        cursor.execute(_CREATE)
        with connection.connected(uri) as act:
            for _ in act("embed_column", profile="user", table="diagnoses", text_column="text"):
                pass
        cursor.execute('SELECT count(*) FROM "profile:user".diagnoses')
        if cursor.fetchone() == (total,):
            progress.update(task, completed=total)
            return
        with closing(dbapi.connect(uri)) as loading, loading.cursor() as loader:
            loader.adbc_ingest("chapters", chapters, mode="replace", db_schema_name="testing")
            # An upload is answered when its texts are embedded: its parts are progress, in one transaction.
            for batch in diagnoses.to_batches(max_chunksize=_BATCH_ROWS):
                loader.adbc_ingest("diagnoses", batch, mode="append", db_schema_name="profile:user")
                progress.advance(task, batch.num_rows)
            loading.commit()


def _activate(console: Console, uri: str) -> None:
    with connection.connected(uri) as act:
        *rows, summary = act("activate_profile", profile="user")
    for row in rows:
        size = f"{row['rows']:,} vectors of {row['dim']} in {row['bytes'] / 2**20:.0f} MiB"
        console.print(f"{row['table']}.{row['index']}: {size}, tier {row['tier']}", highlight=False)
    console.print(f"profile user activated in {summary['ms']:.0f} ms", highlight=False)


def _show(console: Console, found: pa.Table) -> None:
    if not found.num_rows:
        raise click.ClickException("the search has found nothing")
    shown = Table(title="diagnoses that mean the same, with the chapters that they are in")
    for field in found.schema:
        shown.add_column(field.name, justify="left" if pa.types.is_string(field.type) else "right")
    for row in found.to_pylist():
        shown.add_row(*(str(value) for value in row.values()))
    console.print(QUERY, style="dim", highlight=False, markup=False)
    console.print(shown)
