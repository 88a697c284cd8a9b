"""The command `flight-server`; one module for each family of commands."""

from importlib import import_module
from typing import Any

import click

from flight_server import __version__
from flight_server.errors import LakehouseError

_COMMANDS = {
    "serve": "flight_server.cli.serve:serve",
    "check-config": "flight_server.cli.serve:check_config",
    "demo": "flight_server.cli.demo:demo",
    "users": "flight_server.cli.users:users",
    "tokens": "flight_server.cli.tokens:tokens",
    "profiles": "flight_server.cli.profiles:profiles",
    "migrate": "flight_server.cli.catalog:migrate",
    "compact": "flight_server.cli.catalog:compact",
    "sweep": "flight_server.cli.catalog:sweep",
    "backup": "flight_server.cli.backup:backup",
    "restore": "flight_server.cli.backup:restore",
    "catalog": "flight_server.cli.catalog:catalog",
}


class _Commands(click.Group):
    """Imports a command's module when it is used, because ADBC, which the demo needs, takes a second.

    An error that was written for people is shown without its traceback; exit code 1.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LakehouseError as error:
            raise click.ClickException(error.message) from error
        except OSError as error:
            raise click.ClickException(f"{error.strerror}: {error.filename}") from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="flight-server")
def main() -> None:
    """Serve Arrow Flight SQL over many object-store buckets."""
