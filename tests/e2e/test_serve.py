import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.errors import FailedPreconditionError
from flight_server.testing import serve


def test_own_buckets_and_settings_reach_the_server(tmp_path: Path) -> None:
    roots: dict[str, dict[str, object]] = {
        "primary": {"uri": tmp_path / "p"},
        "frozen": {"uri": tmp_path / "f", "read_only": True},
    }
    with serve(roots, data_dir=tmp_path, limits={"sessions": 3}) as server:
        with dbapi.connect(server.uri, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.adbc_ingest("t", pa.table({"x": [1]}), mode="create")
            with pytest.raises(dbapi.Error, match="frozen"):
                cursor.adbc_ingest("t", pa.table({"x": [1]}), mode="create", db_schema_name="frozen")
        assert list((tmp_path / "p").rglob("*.parquet"))
    assert server.process.returncode == 0


def test_wrong_settings_are_told_by_the_error(tmp_path: Path) -> None:
    with (
        pytest.raises(FailedPreconditionError, match="unknown setting; known here: message_bytes"),
        serve(data_dir=tmp_path, limits={"sesions": 3}),
    ):
        pass


def test_wrong_settings_end_the_command_with_one_and_no_traceback() -> None:
    command = [sys.executable, "-m", "flight_server", "serve", "--port", "70000", "--host", "192.0.2.1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: the configuration has 2 problems:")
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_told_without_a_traceback(tmp_path: Path) -> None:
    with (
        serve(data_dir=tmp_path / "a") as first,
        pytest.raises(FailedPreconditionError) as caught,
        serve(data_dir=tmp_path / "b", port=first.port),
    ):
        pass
    assert str(first.port) in caught.value.message
    assert "Traceback" not in caught.value.message
