import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flight_server.cli.demo import client_lines

SHOWN = ("336776/336776", "largest airport of North America by area")
"""All flights were loaded, and three buckets joined."""

WIDE = os.environ | {"COLUMNS": "160"}


def demo_command(data_dir: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "flight_server", "demo", "--data-dir", str(data_dir), *options]


@pytest.fixture
def printed(tmp_path: Path) -> Iterator[Path]:
    """What a demo that keeps serving has printed so far; it is interrupted at the end."""
    path, command = tmp_path / "printed", demo_command(tmp_path / "data")
    with path.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out, env=WIDE) as demo:
        deadline = time.monotonic() + 50
        while "Ctrl-C" not in path.read_text() and demo.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        yield path
        demo.send_signal(signal.SIGINT)
        assert demo.wait(15) == 0
    assert path.read_text().endswith("stopped\n")


@pytest.mark.slow
def test_demo_joins_three_buckets_and_ends(tmp_path: Path) -> None:
    command = demo_command(tmp_path, "--once")
    done = subprocess.run(command, capture_output=True, text=True, timeout=55, env=WIDE)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(text in done.stdout for text in SHOWN)


@pytest.mark.slow
def test_demo_searches_texts_by_their_meaning(tmp_path: Path) -> None:
    pytest.importorskip("wordllama")
    pytest.importorskip("simple_icd_10_cm")
    done = subprocess.run(
        demo_command(tmp_path, "--once", "--text"),
        capture_output=True, text=True, timeout=55, env=os.environ | {"COLUMNS": "160"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "Elevated blood glucose level" in done.stdout
    assert "Endocrine, nutritional and metabolic diseases" in done.stdout


def test_demo_joins_three_buckets_and_its_lines_for_python_clients_run_as_printed(printed: Path) -> None:
    text = printed.read_text()
    assert all(shown in text for shown in SHOWN)
    port = int(text.partition("grpc://127.0.0.1:")[2].split(",")[0])
    lines = client_lines("127.0.0.1", port)
    assert all(line in text for line in lines.values())
    for client in ("ADBC", "pyarrow.flight"):
        done = subprocess.run(lines[client], shell=True, capture_output=True, text=True, timeout=30)  # noqa: S602
        assert (done.returncode, done.stderr) == (0, "")
        assert "name" in done.stdout
