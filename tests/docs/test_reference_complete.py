from pathlib import Path
from typing import Any

from pyarrow.flight import FlightClient

from flight_server.errors import BY_NAME, LakehouseError
from flight_server.flight.wire import headers

REFERENCE = Path(__file__).parents[2] / "docs/reference"


def test_every_error_is_in_the_reference() -> None:
    text = (REFERENCE / "errors.md").read_text()
    assert [name for name in BY_NAME if name != LakehouseError.__name__ and f"`{name}`" not in text] == []


def test_every_action_is_in_the_reference_with_a_description(flight: FlightClient) -> None:
    text = (REFERENCE / "actions.md").read_text()
    actions: list[Any] = list(flight.list_actions())
    assert [action.type for action in actions if f"| `{action.type}` |" not in text] == []
    assert all(action.description for action in actions)


def test_every_header_is_in_the_reference() -> None:
    text = (REFERENCE / "headers.md").read_text()
    assert [name for name in headers.OURS if f"`{name}`" not in text] == []
