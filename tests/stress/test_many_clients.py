"""Two servers on one catalog, stops under load, and hundreds of clients that stand still."""

import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.flight
import pytest

from flight_server.testing import Server, serve
from tests import flight_sql

pytestmark = [pytest.mark.stress, pytest.mark.timeout(600)]

COMMITS = 200
STOPS = 20
STALLED = 500
IDLE = 60


def append(client: pyarrow.flight.FlightClient, name: str, table: pa.Table) -> bytes:
    writer, reader = client.do_put(pyarrow.flight.FlightDescriptor.for_path(name), table.schema)
    with writer:
        writer.write_table(table)
        writer.done_writing()
        answer: bytes = reader.read().to_pybytes()
        return answer


def count(client: pyarrow.flight.FlightClient, name: str) -> int:
    return int(flight_sql.query(client, f"SELECT count(*) AS n FROM {name}")["n"][0].as_py())


def test_two_servers_on_one_catalog_see_each_others_commits_at_once(tmp_path: Path) -> None:
    catalog = {"url": f"sqlite:///{tmp_path / 'shared.db'}"}
    with ExitStack() as stack:
        servers = [stack.enter_context(serve(data_dir=tmp_path, catalog=catalog)) for _ in range(2)]
        clients = [stack.enter_context(pyarrow.flight.connect(server.uri)) for server in servers]
        row = pa.table({"x": [1]})
        append(clients[0], "ping", row)
        for turn in range(1, 21):
            append(clients[turn % 2], "ping", row)
            assert count(clients[(turn + 1) % 2], "ping") == turn + 1
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(lambda client: [append(client, "shared", row) for _ in range(COMMITS)], clients))
        assert [count(client, "shared") for client in clients] == [2 * COMMITS] * 2
        assert b'"version": 401' in append(clients[0], "shared", row)


def test_a_stop_under_load_breaks_no_stream(tmp_path: Path) -> None:
    rows = 3_000_000
    for _ in range(STOPS):
        with serve(data_dir=tmp_path) as server, ThreadPoolExecutor(4) as threads:
            begun = threading.Barrier(5)

            def read(uri: str = server.uri, begun: threading.Barrier = begun) -> int:
                with pyarrow.flight.connect(uri) as client:
                    sql = f"SELECT i, i * 1.5 AS x FROM range({rows}) r(i)"
                    info = client.get_flight_info(flight_sql.statement_query(sql))
                    reader = client.do_get(info.endpoints[0].ticket)
                    seen = reader.read_chunk().data.num_rows
                    begun.wait()
                    for chunk in reader:
                        seen += chunk.data.num_rows
                        time.sleep(0.002)
                    return int(seen)

            reading = [threads.submit(read) for _ in range(4)]
            begun.wait()
            server.process.send_signal(signal.SIGTERM)
            assert [future.result() for future in reading] == [rows] * 4
            assert server.process.wait(15) == 0


def usage(server: Server) -> tuple[int, int]:
    """Return the MB and the threads that the server and its engine processes have now."""
    megabytes = threads = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text, stat = status.read_text(), (status.parent / "stat").read_text()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[2]) == server.process.pid:
            fields = dict(line.split(":", 1) for line in text.splitlines())
            megabytes += int(fields["RssAnon"].split()[0]) // 1024
            threads += int(fields["Threads"])
    return megabytes, threads


def test_hundreds_that_stand_still_keep_nobody_waiting_and_are_cut_off(tmp_path: Path) -> None:
    batch = pa.record_batch({"i": pa.array(range(1_000))})
    idle = {"read_idle": IDLE, "write_idle": IDLE, "heavy_statements": 2 * STALLED}
    with serve(data_dir=tmp_path, limits=idle) as server, ExitStack() as stack:
        main = stack.enter_context(pyarrow.flight.connect(server.uri))
        append(main, "t", pa.table({"x": [1]}))
        sql = flight_sql.statement_query("SELECT i, i * 2 AS j FROM range(100000000) r(i)")
        ticket = main.get_flight_info(sql).endpoints[0].ticket
        before = usage(server)
        sockets = [socket.create_connection((server.host, server.port)) for _ in range(STALLED)]
        held = []
        for number in range(STALLED):
            # One connection each: streams that share one share its window too, and stall each other.
            client = stack.enter_context(pyarrow.flight.connect(server.uri))
            reader = client.do_get(ticket)
            reader.read_chunk()
            path = pyarrow.flight.FlightDescriptor.for_path(f"stalled_{number}")
            writer, answers = client.do_put(path, batch.schema)
            writer.write_batch(batch)
            held.append((reader, writer, answers))
        began = time.monotonic()
        for _ in range(20):
            assert count(main, "t") == 1
        took, during = time.monotonic() - began, usage(server)
        assert took < 20
        append(main, "t", pa.table({"x": [2]}))
        time.sleep(IDLE + 10)
        after = usage(server)
        running = "sys.queries WHERE state = 'running' AND sql LIKE '%r(i)%' AND sql NOT LIKE '%sys.queries%'"
        assert count(main, running) == 0
        assert after[1] < before[1] + 50
        assert during[0] < before[0] + 30 * STALLED
        for silent in sockets:
            silent.settimeout(10)
            while silent.recv(1_024):  # what the server says first, then the end
                pass
            silent.close()
        for reader, _, _ in held:
            reader.cancel()
        held.clear()
