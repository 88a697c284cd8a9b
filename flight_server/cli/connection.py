"""A running server as the client of commands sees it: actions with JSON bodies, their results one by one."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import pyarrow as pa
from pyarrow import flight  # noqa: TID251 - a client of a server, whatever serves there

from flight_server.errors import InvalidArgumentError, LakehouseError, NotFoundError, UnavailableError

TOKEN_VARIABLE = "FLIGHT_SERVER_TOKEN"  # noqa: S105 (the name of a variable)
"""Where the token for a server comes from on which everybody has to log in."""

TLS_VARIABLES = {
    "FLIGHT_SERVER_TLS_ROOTS": ("tls_root_certs", "adbc.flight.sql.client_option.tls_root_certs"),
    "FLIGHT_SERVER_TLS_CERTIFICATE": ("cert_chain", "adbc.flight.sql.client_option.mtls_cert_chain"),
    "FLIGHT_SERVER_TLS_KEY": ("private_key", "adbc.flight.sql.client_option.mtls_private_key"),
}
"""Variables that name PEM files → the names in Arrow's client and in ADBC: whom to trust, and who one is."""

_SCHEMES = ("grpc", "grpc+tcp", "grpc+tls")

Act = Callable[..., Iterator[dict[str, Any]]]
"""Name of an action and its body → its results."""


def _address(_ctx: click.Context, _option: click.Parameter, text: str) -> str:
    parts = urlsplit(text)
    try:
        is_address = parts.scheme in _SCHEMES and parts.hostname and parts.port
    except ValueError:  # a port that is no number, or brackets that do not close
        is_address = False
    if not is_address:
        raise click.BadParameter(f"{text!r} is no address of a server; one is grpc://127.0.0.1:31337")
    return text


uri = click.option(
    "--uri",
    default="grpc://127.0.0.1:31337",
    show_default=True,
    callback=_address,
    help=f"The running server; where one has to log in, {TOKEN_VARIABLE} holds an API token.",
)


@contextmanager
def connected(address: str) -> Iterator[Act]:
    """Connect to a server and yield what runs actions there.

    Raises UnavailableError when none answers, InvalidArgumentError with what a server says that refuses and
    for a file of `TLS_VARIABLES` that cannot be read.
    """
    sent = _authorization()
    headers = [(b"authorization", sent.encode())] if sent else []
    options = flight.FlightCallOptions(headers=headers)  # type: ignore[arg-type]  # it wants no texts
    certificates: dict[str, Any] = {names[0]: text for names, text in _certificates()}
    with flight.connect(address, **certificates) as client:

        def act(name: str, /, **body: Any) -> Iterator[dict[str, Any]]:
            given = {key: value for key, value in body.items() if value is not None}
            try:
                for result in client.do_action(flight.Action(name, json.dumps(given).encode()), options):
                    yield json.loads(result.body.to_pybytes())
            except (pa.ArrowException, flight.FlightError, OSError) as error:
                raise _translated(error, address) from error

        yield act


def adbc_options() -> dict[str, str]:
    """Return what ADBC needs to log in like `connected`. Raises InvalidArgumentError for a file."""
    options, sent = {names[1]: text.decode() for names, text in _certificates()}, _authorization()
    return options | ({"adbc.flight.sql.authorization_header": sent} if sent else {})


def _authorization() -> str | None:
    """Return the header that says who calls."""
    token = os.environ.get(TOKEN_VARIABLE)
    return f"Bearer {token}" if token else None


def _certificates() -> list[tuple[tuple[str, str], bytes]]:
    """Return the texts of the files that variables name, with what clients call them."""
    named = [(names, os.environ.get(variable)) for variable, names in TLS_VARIABLES.items()]
    try:
        return [(names, Path(file).read_bytes()) for names, file in named if file]
    except OSError as error:
        raise InvalidArgumentError(
            f"{error.filename}: {error.strerror}; {', '.join(TLS_VARIABLES)} name files"
        ) from error


def profile_name(act: Act, written: str) -> str:
    """Return the short name of a profile of the server. Raises NotFoundError."""
    name = written.lower().removeprefix("profile:")
    if all(row["profile"] != name for row in act("list_profiles")):
        raise NotFoundError(f"no profile {written!r}; `flight-server profiles list` lists them")
    return name


def _translated(error: BaseException, address: str) -> LakehouseError:
    """Return what the server said, without what Arrow's client wraps around it."""
    text = str(error.args[0] if error.args else error)
    said = text.partition("with message: ")[2].partition(". Detail: ")[0] or text
    if said.startswith("failed to connect"):
        return UnavailableError(
            f"no server answers at {address}: start one with `flight-server serve`, or say with --uri where "
            "one runs; where grpc+tls meets a certificate of an authority that this machine does not know, "
            "FLIGHT_SERVER_TLS_ROOTS names the authority's file"
        )
    return InvalidArgumentError(said)
