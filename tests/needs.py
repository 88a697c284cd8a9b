"""What a test needs of the machine: where it is missing, the test fails in CI and is skipped elsewhere."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest


def missing(what: str, remedy: str) -> NoReturn:
    """End the test that needs `what`; `remedy` says how to get it. In CI (`CI=true`) that is a failure."""
    reason = f"{what} is missing: {remedy}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def program(name: str, remedy: str) -> str:
    """Return where a program of the machine is, or end the test."""
    return shutil.which(name) or missing(f"the program {name}", remedy)


def installed(path: Path, what: str, remedy: str) -> Path:
    """Return the path of what a command has installed, or end the test."""
    return path if path.exists() else missing(what, remedy)
