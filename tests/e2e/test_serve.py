import subprocess
import sys
from pathlib import Path

import grpc
import pyarrow as pa
import pytest
from adbc_driver_flightsql import dbapi
from click.testing import CliRunner
from grpc_health.v1 import health_pb2, health_pb2_grpc

from flight_server.cli import main
from flight_server.errors import FailedPreconditionError
from flight_server.testing import Server, serve


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
        pytest.raises(FailedPreconditionError, match="unknown setting; known here: message_bytes") as caught,
        serve(data_dir=tmp_path, limits={"sesions": 3}),
    ):
        pass
    assert "Traceback" not in caught.value.message


def test_wrong_settings_end_the_command_with_one_and_no_traceback() -> None:
    done = CliRunner().invoke(main, ["serve", "--port", "70000", "--host", "192.0.2.1"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: the configuration has 2 problems:")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_port_in_use_is_told_without_a_traceback(tmp_path: Path) -> None:
    with (
        serve(data_dir=tmp_path / "a") as first,
        pytest.raises(FailedPreconditionError) as caught,
        serve(data_dir=tmp_path / "b", port=first.port),
    ):
        pass
    assert str(first.port) in caught.value.message
    assert "Traceback" not in caught.value.message


def test_the_health_service_answers(server: Server) -> None:
    with grpc.insecure_channel(f"{server.host}:{server.port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "arrow.flight.protocol.FlightService"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_check_config_says_where_everything_is_or_all_that_is_wrong(tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text(f'[buckets.primary]\nuri = "{tmp_path}/p"\n')
    command = [sys.executable, "-m", "flight_server", "check-config", "--config", str(config)]
    good = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (good.returncode, good.stderr) == (0, "")
    assert f"bucket primary: {(tmp_path / 'p').as_uri()}" in good.stdout
    config.write_text('port = 70000\n[buckets.Upper]\nuri = "s3://x"\n[limits]\nsesions = 1\n')
    bad = CliRunner().invoke(main, command[3:])
    assert bad.exit_code == 1
    assert all(word in bad.stderr for word in ("port", "primary", "Upper", "s3://", "sesions"))


@pytest.mark.slow
def test_workers_share_a_port_and_a_catalog(tmp_path: Path) -> None:
    with serve(data_dir=tmp_path, workers=2) as server:
        for number in range(8):
            with dbapi.connect(server.uri) as connection, connection.cursor() as cursor:
                mode = "append" if number else "create"
                cursor.adbc_ingest("shared", pa.table({"x": [number]}), mode=mode)
                connection.commit()
                cursor.execute("SELECT count(*) FROM shared")
                assert cursor.fetchall() == [(number + 1,)]
    assert server.process.returncode == 0
