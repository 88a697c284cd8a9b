"""`flight-server users`: who may log in, in the users file of the configuration."""

import sys
from pathlib import Path

import click

from flight_server.auth.changes import UserChanges
from flight_server.auth.users import UsersFile
from flight_server.cli import options
from flight_server.errors import FailedPreconditionError

_LEAST_CHARACTERS = 8

_grants = click.option(
    "--grant",
    "grants",
    multiple=True,
    help="What the user may do, such as 'profile:user=read,write'; again for more.",
)
_from_stdin = click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")


def changes(config_file: Path | None, data_dir: Path | None) -> UserChanges:
    """Return what changes the configured users file. Raises FailedPreconditionError when there is none."""
    auth = options.settings(config_file, data_dir=data_dir).auth
    if auth.users_file is None:
        raise FailedPreconditionError(
            "no users file is configured; set auth.users_file, in the file of --config or with "
            "FLIGHT_SERVER__AUTH__USERS_FILE"
        )
    return UserChanges(UsersFile(auth.users_file))


@click.group()
def users() -> None:
    """Add, list and revoke users; a running server notices within seconds."""


@users.command()
@click.argument("name")
@_grants
@click.option(
    "--certificate",
    "certificates",
    multiple=True,
    help="A name in client certificates that stands for the user: 'CN=…', a whole subject, 'DNS:…', 'URI:…', "
    "'EMAIL:…'; again for more.",
)
@_from_stdin
@click.option(
    "--no-password", is_flag=True, help="For users who log in by JWT, certificate or API token alone."
)
@options.config
@options.data_dir
def add(
    name: str,
    grants: tuple[str, ...],
    certificates: tuple[str, ...],
    password_stdin: bool,
    no_password: bool,
    config_file: Path | None,
    data_dir: Path | None,
) -> None:
    """Add a user; one who was revoked begins anew, without the tokens of before."""
    changing = changes(config_file, data_dir)
    password = None if no_password else _password(from_stdin=password_stdin)
    changing.add_user(name, grants, password, certificates)
    click.echo(f"added {name}")


@users.command()
@click.argument("name")
@_grants
@options.config
@options.data_dir
def grant(name: str, grants: tuple[str, ...], config_file: Path | None, data_dir: Path | None) -> None:
    """Replace what a user may do; without --grant only what everybody may remains."""
    changes(config_file, data_dir).grant(name, grants)
    click.echo(f"{name} may now: {' '.join(grants) or 'nothing of its own'}")


@users.command()
@click.argument("name")
@_from_stdin
@options.config
@options.data_dir
def passwd(name: str, password_stdin: bool, config_file: Path | None, data_dir: Path | None) -> None:
    """Change a user's password; who has logged in with the former one is out within seconds."""
    changing = changes(config_file, data_dir)
    changing.user(name)
    changing.change_password(name, _password(from_stdin=password_stdin))
    click.echo(f"changed the password of {name}")


@users.command()
@click.argument("name")
@options.config
@options.data_dir
def revoke(name: str, config_file: Path | None, data_dir: Path | None) -> None:
    """Let a user in no more, by whatever means; sessions, statements and streams are cut within seconds."""
    changes(config_file, data_dir).revoke_user(name)
    click.echo(f"revoked {name}")


@users.command("list")
@options.config
@options.data_dir
def list_users(config_file: Path | None, data_dir: Path | None) -> None:
    """List the users with their grants."""
    for user in changes(config_file, data_dir).users():
        by = [*(["password"] if user.password_hash else []), *user.certificates]
        state = "revoked" if user.revoked else ", ".join(by) or "no password"
        click.echo(f"{user.name} ({state}): {' '.join(map(str, user.grants)) or 'no grants of its own'}")


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif not sys.stdin.isatty():
        raise click.UsageError(
            "there is no terminal to ask for the password: use --password-stdin or --no-password"
        )
    else:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    if len(password) < _LEAST_CHARACTERS:
        raise FailedPreconditionError(f"a password has at least {_LEAST_CHARACTERS} characters")
    return password
