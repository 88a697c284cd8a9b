import subprocess
import sys
from pathlib import Path

import pytest

from flight_server.testing import Server

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "client_examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_and_says_something(example: Path, server: Server) -> None:
    done = subprocess.run([sys.executable, example, server.uri], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_short_and_says_what_it_shows(example: Path) -> None:
    lines = example.read_text().splitlines()
    assert len(lines) < 40
    assert lines[0].startswith('"""')
