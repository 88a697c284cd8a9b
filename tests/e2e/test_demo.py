import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flight_server.cli.demo import client_lines
from flight_server.cli.demo_text import search_lines

SHOWN = ("336776/336776", "largest airport of North America by area")
"""All flights were loaded, and three buckets joined."""

WIDE = os.environ | {"COLUMNS": "160"}


def demo_command(data_dir: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "flight_server", "demo", "--data-dir", str(data_dir), *options]


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[str]:
    """Yield what a demo that keeps serving has printed; it is interrupted at the end."""
    path, command = folder / "printed", demo_command(folder / "data", *options)
    with path.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out, env=WIDE) as demo:
        deadline = time.monotonic() + 50
        while "Ctrl-C" not in path.read_text() and demo.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        yield path.read_text()
        demo.send_signal(signal.SIGINT)
        assert demo.wait(15) == 0
    assert path.read_text().endswith("stopped\n")


@pytest.mark.slow
def test_demo_joins_three_buckets_and_ends(tmp_path: Path) -> None:
    command = demo_command(tmp_path, "--once")
    done = subprocess.run(command, capture_output=True, text=True, timeout=55, env=WIDE)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(text in done.stdout for text in SHOWN)


def run_line(line: str) -> str:
    """Run a line of the demo in a shell; return what it printed."""
    done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=30)  # noqa: S602
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def port_of(printed: str) -> int:
    return int(printed.partition("grpc://127.0.0.1:")[2].split(",")[0])


@pytest.mark.slow
def test_demo_searches_texts_by_their_meaning(tmp_path: Path) -> None:
    pytest.importorskip("wordllama")
    pytest.importorskip("simple_icd_10_cm")
    with serving(tmp_path, "--text") as printed:
        assert "46881/46881" in printed
        assert "Elevated blood glucose level" in printed
        assert "Endocrine, nutritional and metabolic diseases" in printed
        lines = search_lines("127.0.0.1", port_of(printed))
        assert all(line in printed for line in lines.values())
        assert "Problems related to sleep" in run_line(lines["ADBC, a search"])


def test_demo_joins_three_buckets_and_its_lines_for_python_clients_run_as_printed(tmp_path: Path) -> None:
    with serving(tmp_path) as printed:
        assert all(shown in printed for shown in SHOWN)
        lines = client_lines("127.0.0.1", port_of(printed))
        assert all(line in printed for line in lines.values())
        for client in ("ADBC", "pyarrow.flight"):
            assert "name" in run_line(lines[client])
