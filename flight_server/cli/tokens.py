"""`flight-server tokens`: API tokens for programs, in the users file of the configuration."""

import time
from datetime import UTC, datetime
from pathlib import Path

import click

from flight_server.cli import options
from flight_server.cli.users import changes

_DAY = 24 * 3600


@click.group()
def tokens() -> None:
    """Add, list and revoke API tokens, which programs send as 'authorization: Bearer …'."""


@tokens.command()
@click.argument("owner")
@click.option(
    "--grant",
    "grants",
    multiple=True,
    help="Part of what the owner may; without it all that. Again for more.",
)
@click.option("--label", default="", help="What it is for, in words of yours.")
@click.option(
    "--days", type=click.FloatRange(min=0), default=90, show_default=True, help="How long it is good for."
)
@click.option("--no-expiry", is_flag=True, help="It is good until it is revoked.")
@options.config
@options.data_dir
def add(
    owner: str,
    grants: tuple[str, ...],
    label: str,
    days: float,
    no_expiry: bool,
    config_file: Path | None,
    data_dir: Path | None,
) -> None:
    """Make a token of a user and print it; this is the only time that it is shown."""
    expires = None if no_expiry else int(time.time() + days * _DAY)
    click.echo(changes(config_file, data_dir).add_token(owner, grants or None, label, expires))


@tokens.command("list")
@options.config
@options.data_dir
def list_tokens(config_file: Path | None, data_dir: Path | None) -> None:
    """List the tokens by their ids, without their secrets."""
    for token in changes(config_file, data_dir).tokens():
        allowed = "all that the owner may" if token.grants is None else " ".join(map(str, token.grants))
        state = "revoked" if token.revoked else f"good until {_shown(token.expires_at)}"
        click.echo(f"{token.id} of {token.owner} ({state}): {allowed}{token.label and '  # ' + token.label}")


@tokens.command()
@click.argument("token_id")
@options.config
@options.data_dir
def revoke(token_id: str, config_file: Path | None, data_dir: Path | None) -> None:
    """Let nobody in with a token any more, named by its id (or by itself)."""
    click.echo(f"revoked {changes(config_file, data_dir).revoke_token(token_id)}")


def _shown(moment: int | None) -> str:
    return "it is revoked" if moment is None else datetime.fromtimestamp(moment, UTC).isoformat()
