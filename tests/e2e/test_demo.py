import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flight_server.cli.demo import client_lines

BUCKETS_JOINED = "largest airport of North America by area"


def demo_command(data_dir: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "flight_server", "demo", "--data-dir", str(data_dir), *options]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture
def printed(data_dir: Path, tmp_path: Path) -> Iterator[Path]:
    """What a demo that keeps serving has printed so far; it is interrupted at the end."""
    path = tmp_path / "printed"
    with path.open("wb") as out, subprocess.Popen(demo_command(data_dir), stdout=out, stderr=out) as demo:
        deadline = time.monotonic() + 50
        while "Ctrl-C" not in path.read_text() and demo.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        yield path
        demo.send_signal(signal.SIGINT)
        assert demo.wait(15) == 0
    assert path.read_text().endswith("stopped\n")


def test_demo_joins_three_buckets_and_ends(data_dir: Path) -> None:
    done = subprocess.run(
        demo_command(data_dir, "--once"),
        capture_output=True, text=True, timeout=55, env=os.environ | {"COLUMNS": "160"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "336776/336776" in done.stdout
    assert BUCKETS_JOINED in done.stdout


def test_lines_for_python_clients_run_as_printed(printed: Path) -> None:
    text = printed.read_text()
    port = int(text.partition("grpc://127.0.0.1:")[2].split(",")[0])
    lines = client_lines("127.0.0.1", port)
    assert all(line in text for line in lines.values())
    for client in ("ADBC", "pyarrow.flight"):
        done = subprocess.run(lines[client], shell=True, capture_output=True, text=True, timeout=30)  # noqa: S602
        assert (done.returncode, done.stderr) == (0, "")
        assert "name" in done.stdout
