"""`flight-server serve`: run the server until it is told to stop."""

import asyncio
from pathlib import Path

import click

from flight_server import app
from flight_server.cli import options, workers


@click.command()
@options.config
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port; 0 picks a free one.  [default: 31337]")
@options.data_dir
@click.option("--workers", "worker_count", type=int, help="Processes that share the port.  [default: 1]")
def serve(
    config_file: Path | None,
    host: str | None,
    port: int | None,
    data_dir: Path | None,
    worker_count: int | None,
) -> None:
    """Serve until interrupted.

    When all is ready, one line `flight-server ready grpc://HOST:PORT` is printed.
    """
    settings = options.settings(config_file, host=host, port=port, data_dir=data_dir, workers=worker_count)
    if settings.workers > 1:
        workers.serve(settings, _announce)
    else:
        asyncio.run(app.serve(settings, _announce))


@click.command("check-config")
@options.config
@options.data_dir
def check_config(config_file: Path | None, data_dir: Path | None) -> None:
    """Check the configuration, all of it at once, and say where buckets and catalog are."""
    settings = options.settings(config_file, data_dir=data_dir)
    for bucket in settings.registry():
        aliases = ", ".join(repr(alias) for alias in bucket.aliases) or "no aliases"
        click.echo(f"bucket {bucket.name}: {bucket.uri} ({aliases})")
    click.echo(f"catalog: {settings.catalog_url}")
    click.echo(f"authentication: {'on' if settings.auth.is_on else 'off, everybody may do everything'}")
    click.echo(f"TLS: {'on' if settings.tls.is_on else 'off'}")
    click.echo("the configuration is valid")


def _announce(uri: str) -> None:
    click.echo(f"flight-server ready {uri}")
