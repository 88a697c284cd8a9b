"""`flight-server demo`: three buckets of real data, one query over all of them."""

import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

import click
import pyarrow as pa
from adbc_driver_flightsql import dbapi
from adbc_driver_manager import AdbcStatusCode
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from flight_server.cli.demo_text import search_lines, show_search
from flight_server.cli.nycflights import DemoTable, read_tables
from flight_server.testing import serve

QUERY = """\
SELECT a.name AS airport, n.note, count(*) AS flights, round(avg(arr_delay), 1) AS delay
FROM "primary".flights f
JOIN testing.airports a ON a.faa = f.dest
JOIN "profile:user".airport_notes n ON n.faa = f.dest
GROUP BY ALL
ORDER BY flights DESC"""

_BATCH_ROWS = 16_384
_BUCKET_HEADER = "adbc.flight.sql.rpc.call_header.x-lakehouse-bucket"


@click.command()
@click.option("--once", is_flag=True, help="End after the query.")
@click.option("--text", is_flag=True, help="Search texts by their meaning too.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=".demo-data",
    show_default=True,
    help="Folder of the demo's catalog and buckets; remove it to start afresh.",
)
def demo(once: bool, text: bool, data_dir: Path) -> None:
    """Load the flights of New York in 2013 into three buckets, join them, and keep serving."""
    console = Console()
    with _interrupts(), serve(data_dir=data_dir) as server:
        console.print(f"server at {server.uri}, data in {data_dir}", highlight=False)
        _load(console, server.uri, read_tables())
        _show_query(console, server.uri)
        if text:
            show_search(console, server.uri)
        if not once:
            _show_lines(console, client_lines(server.host, server.port))
            _show_lines(console, search_lines(server.host, server.port) if text else {})
            console.print("\nserving; Ctrl-C stops the server, the data stay", highlight=False)
            server.process.wait()
            raise click.ClickException("the server has ended")


@contextmanager
def _interrupts() -> Iterator[None]:
    """Make Ctrl-C and SIGTERM a clean end, of background jobs too, and a driver's error one line."""
    previous = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except KeyboardInterrupt:
        click.echo("stopped")
    except dbapi.Error as error:
        raise click.ClickException(str(error)) from error
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _connect(uri: str, bucket: str) -> dbapi.Connection:
    return dbapi.connect(uri, db_kwargs={_BUCKET_HEADER: bucket}, autocommit=True)


def _load(console: Console, uri: str, tables: list[DemoTable]) -> None:
    columns = (TextColumn("{task.description:32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        for table in tables:
            with closing(_connect(uri, table.bucket)) as connection:
                task = progress.add_task(table.sql_name, total=table.rows.num_rows)
                if _exists(connection, table):
                    progress.update(task, completed=table.rows.num_rows)
                else:
                    _ingest(connection, table, partial(progress.advance, task))


def _exists(connection: dbapi.Connection, table: DemoTable) -> bool:
    """Tell whether the table is there; an upload is all or nothing, so then it is complete."""
    with connection.cursor() as cursor:
        try:
            cursor.execute(f"SELECT count(*) FROM {table.sql_name}")  # noqa: S608 - our own names
        except dbapi.Error as error:
            if error.status_code == AdbcStatusCode.NOT_FOUND:
                return False
            raise
        return True


def _ingest(connection: dbapi.Connection, table: DemoTable, advance: Callable[[int], None]) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        for batch in table.rows.to_batches(max_chunksize=_BATCH_ROWS):
            yield batch
            advance(batch.num_rows)

    reader = pa.RecordBatchReader.from_batches(table.rows.schema, batches())
    with connection.cursor() as cursor:
        cursor.adbc_ingest(table.name, reader, mode="create")


def _show_query(console: Console, uri: str) -> None:
    with closing(_connect(uri, "primary")) as connection, connection.cursor() as cursor:
        cursor.execute(QUERY)
        result = cursor.fetch_arrow_table()
    shown = Table(title="one query over the buckets primary, testing and profile:user")
    for field in result.schema:
        shown.add_column(field.name, justify="left" if pa.types.is_string(field.type) else "right")
    for row in result.to_pylist():
        shown.add_row(*(str(value) for value in row.values()))
    console.print(QUERY, style="dim", highlight=False, markup=False)
    console.print(shown)


def client_lines(host: str, port: int) -> dict[str, str]:
    """Return for each client the line to paste into a shell, or into its settings for JDBC."""
    uri = f"grpc://{host}:{port}"
    adbc = (
        "from adbc_driver_flightsql.dbapi import connect; "
        f"cursor = connect({uri!r}, autocommit=True).cursor(); "
        "cursor.execute('FROM testing.airports LIMIT 3'); print(cursor.fetch_arrow_table())"
    )
    flight = (
        f"import pyarrow.flight as f; client = f.connect({uri!r}); "
        "info = client.get_flight_info(f.FlightDescriptor.for_path('testing', 'airlines')); "
        "print(client.do_get(info.endpoints[0].ticket).read_all().slice(0, 3))"
    )
    python = shlex.quote(sys.executable)
    return {
        "ADBC": f"{python} -c {shlex.quote(adbc)}",
        "pyarrow.flight": f"{python} -c {shlex.quote(flight)}",
        "JDBC": f"jdbc:arrow-flight-sql://{host}:{port}/?useEncryption=false&x-lakehouse-bucket=testing",
    }


def _show_lines(console: Console, lines: Mapping[str, str]) -> None:
    for client, line in lines.items():
        console.print(f"\n[bold]{client}[/bold]", highlight=False)
        console.print(line, soft_wrap=True, markup=False, highlight=False)
