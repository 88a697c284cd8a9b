"""`flight-server serve`: run the server until it is told to stop."""

import asyncio
from pathlib import Path

import click

from flight_server import app
from flight_server.cli import options


@click.command()
@options.config
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port; 0 picks a free one.  [default: 31337]")
@options.data_dir
def serve(config_file: Path | None, host: str | None, port: int | None, data_dir: Path | None) -> None:
    """Serve until interrupted.

    When all is ready, one line `flight-server ready grpc://HOST:PORT` is printed.
    """
    settings = options.settings(config_file, host=host, port=port, data_dir=data_dir)
    asyncio.run(app.serve(settings, _announce))


def _announce(uri: str) -> None:
    click.echo(f"flight-server ready {uri}")
