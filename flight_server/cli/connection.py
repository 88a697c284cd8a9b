"""A running server as the client of commands sees it: actions with JSON bodies, their results one by one."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
import pyarrow as pa
from pyarrow import flight  # noqa: TID251 - a client of a server, whatever serves there

from flight_server.errors import InvalidArgumentError, UnavailableError

uri = click.option("--uri", default="grpc://127.0.0.1:31337", show_default=True, help="The running server.")

Act = Callable[..., Iterator[dict[str, Any]]]
"""Name of an action and its body → its results."""


@contextmanager
def connected(address: str) -> Iterator[Act]:
    """Connect to a server and yield what runs actions there. Raises UnavailableError when none answers."""
    with flight.connect(address) as client:

        def act(name: str, /, **body: Any) -> Iterator[dict[str, Any]]:
            given = {key: value for key, value in body.items() if value is not None}
            try:
                for result in client.do_action(flight.Action(name, json.dumps(given).encode())):
                    yield json.loads(result.body.to_pybytes())
            except flight.FlightUnavailableError as error:
                raise UnavailableError(
                    f"no server answers at {address}; start one, or name it with --uri"
                ) from error
            except (pa.ArrowException, flight.FlightError, OSError) as error:
                raise InvalidArgumentError(_said(error)) from error

        yield act


def _said(error: BaseException) -> str:
    """Return what the server said, without what Arrow's client wraps around it."""
    text = str(error.args[0] if error.args else error)
    return text.partition("with message: ")[2].partition(". Detail: ")[0] or text
