"""`flight-server profiles`: profiles and their indexes, by the actions of a running server."""

from importlib import import_module
from typing import Any

import click

from flight_server.cli import connection
from flight_server.cli.progress import finished
from flight_server.cli.tables import read_object, show
from flight_server.domain.vector import IndexKind

_COMMANDS = {
    "embed": "flight_server.cli.trials:embed",
    "trial": "flight_server.cli.trials:trial",
    "promote": "flight_server.cli.trials:promote",
    "report": "flight_server.cli.report:report",
}
"""Further commands of the group, imported when they are used: name → module:attribute."""

_LISTED = {
    "profile": "profile",
    "bucket": "bucket",
    "indexes": "indexes",
    "active": "in memory",
    "bytes": "bytes",
    "created_at": "created",
}
_ACTIVATED = {
    "table": "table",
    "index": "column",
    "type": "index",
    "rows": "rows",
    "dim": "dim",
    "bytes": "bytes",
    "tier": "tier",
    "open_ms": "open ms",
    "prewarm_ms": "prewarm ms",
    "payload_ms": "payload ms",
}
_KINDS = [kind.value for kind in IndexKind]


class _Profiles(click.Group):
    """Imports the module of a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.commands, *_COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.group(cls=_Profiles)
def profiles() -> None:
    """Work with the profiles of a running server.

    \b
    From texts to a measured index:
      flight-server profiles create ann
      flight-server profiles embed ann docs text
      flight-server profiles index ann docs
      flight-server profiles trial ann docs questions --search '{"ef": 64}'
      flight-server profiles report ann
    """


@profiles.command()
@click.argument("profile")
@connection.uri
def create(profile: str, uri: str) -> None:
    """Make a profile."""
    with connection.connected(uri) as act:
        for made in act("create_profile", profile=profile):
            click.echo(f"profile {made['profile']} has bucket {made['bucket']}")


@profiles.command()
@click.argument("profile")
@click.option("--yes", is_flag=True, help="Do not ask.")
@connection.uri
def drop(profile: str, yes: bool, uri: str) -> None:
    """Drop a profile with all its data, for good."""
    with connection.connected(uri) as act:
        if not yes:
            name = connection.profile_name(act, profile)
            click.confirm(f"Remove profile {name} with all its datasets and indexes?", abort=True)
        (said,) = finished(act("drop_profile", profile=profile), "removing objects")
    removed = f"{said['objects']:,} objects of {said['bytes']:,} bytes"
    click.echo(f"profile {said['profile']} is gone, with {removed}")


@profiles.command("list")
@connection.uri
def list_profiles(uri: str) -> None:
    """List the profiles, with what they have in memory."""
    with connection.connected(uri) as act:
        rows = [*act("list_profiles")]
    show(_LISTED, [row | {"created_at": _minute(row["created_at"])} for row in rows])


def _minute(moment: str | None) -> str | None:
    """Shorten a moment in ISO 8601, which is one of UTC."""
    return None if moment is None else f"{moment[:16].replace('T', ' ')} UTC"


@profiles.command()
@click.argument("profile")
@connection.uri
def activate(profile: str, uri: str) -> None:
    """Load what searches in a profile use."""
    with connection.connected(uri) as act:
        *rows, summary = finished(act("activate_profile", profile=profile), "loading")
    if not rows:
        click.echo(f"profile {summary['profile']} has no table with vectors: there is nothing to load")
        return
    show(_ACTIVATED, rows)
    click.echo(f"profile {summary['profile']}: {summary['bytes']:,} bytes in {summary['ms']:.0f} ms")


@profiles.command()
@click.argument("profile")
@click.argument("table")
@click.option("--column", help="The column to index.  [default: the only one]")
@click.option("--type", "kind", type=click.Choice(_KINDS), default=_KINDS[0], show_default=True)
@click.option("--params", callback=read_object, metavar="JSON", help="Parameters of the build.")
@connection.uri
def index(
    profile: str, table: str, column: str | None, kind: str, params: dict[str, Any] | None, uri: str
) -> None:
    """Index a column of a table for searches, which go on meanwhile.

    \b
    Examples:
      flight-server profiles index ann docs
      flight-server profiles index ann docs --type hnsw_sq --params '{"m": 32}'
      flight-server profiles index ann docs --type fts --column text
    """
    body = {"profile": profile, "table": table, "column": column, "type": kind, "params": params}
    with connection.connected(uri) as act:
        (said,) = finished(act("create_vector_index", **body), "waiting")
    rows, seconds = f"{said['rows']:,} rows", f"{said['seconds']:.1f} s"
    click.echo(f"{said['table']}.{said['column']}: {said['type']} of {rows} in {seconds}")
