"""`flight-server profiles`: profiles and their indexes, by the actions of a running server."""

from importlib import import_module

import click

from flight_server.cli import connection
from flight_server.cli.progress import progress_bar
from flight_server.cli.tables import read_object, show

_COMMANDS = {name: f"flight_server.cli.trials:{name}" for name in ("embed", "trial", "promote", "report")}
"""Further commands of the group, imported when they are used: name → module:attribute."""


class _Profiles(click.Group):
    """Imports the module of a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *_COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.group(cls=_Profiles)
def profiles() -> None:
    """Work with the profiles of a running server."""


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
    """Drop a profile with all its data."""
    if not yes:
        click.confirm(f"Remove profile {profile} with all its datasets and indexes?", abort=True)
    with connection.connected(uri) as act, progress_bar("objects") as advance:
        for said in act("drop_profile", profile=profile):
            if "progress" in said:
                advance(said["progress"]["objects"])
    click.echo(
        f"profile {said['profile']} is gone, with {said['objects']} objects of {said['bytes']:,} bytes"
    )


@profiles.command("list")
@connection.uri
def list_profiles(uri: str) -> None:
    """List the profiles, with what they have in memory."""
    with connection.connected(uri) as act:
        rows = [*act("list_profiles")]
    columns = ("profile", "bucket", "indexes", "active", "bytes", "created_at")
    show(columns, rows)


@profiles.command()
@click.argument("profile")
@connection.uri
def activate(profile: str, uri: str) -> None:
    """Load what searches in a profile use."""
    with connection.connected(uri) as act:
        *rows, summary = act("activate_profile", profile=profile)
    loaded = ("table", "index", "type", "rows", "dim", "bytes", "tier")
    columns = (*loaded, "open_ms", "prewarm_ms", "payload_ms")
    show(columns, rows)
    click.echo(f"{summary['bytes']:,} bytes in {summary['ms']:.0f} ms")


@profiles.command()
@click.argument("profile")
@click.argument("table")
@click.option("--column", help="The column to index.  [default: the only one]")
@click.option("--type", "kind", default="auto", show_default=True, help="hnsw_sq, ivf_rq, fts, …")
@click.option("--params", help="Parameters of the build, as JSON.")
@connection.uri
def index(profile: str, table: str, column: str | None, kind: str, params: str | None, uri: str) -> None:
    """Index a column of a table for searches."""
    given = None if params is None else read_object("--params", params)
    body = {"profile": profile, "table": table, "column": column, "type": kind, "params": given}
    with connection.connected(uri) as act, progress_bar("percent") as advance:
        for said in act("create_vector_index", **body):
            if "progress" in said:
                advance(int(said["progress"]["done"] * 100), 100)
    rows, seconds = f"{said['rows']:,} rows", f"{said['seconds']:.1f} s"
    click.echo(f"{said['table']}.{said['column']}: {said['type']} of {rows} in {seconds}")
