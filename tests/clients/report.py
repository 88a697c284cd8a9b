"""What the Python clients print, each from an environment of its own: one JSON object a line."""

import json
import sys
from collections.abc import Callable
from typing import Any


def show(name: str, step: Callable[[], Any]) -> None:
    """Run a step and print its value, or the error it ended with."""
    try:
        line = {"name": name, "value": step()}
    except Exception as error:
        line = {"name": name, "error": f"{type(error).__name__}: {error}"}
    sys.stdout.write(json.dumps(line, default=str) + "\n")
