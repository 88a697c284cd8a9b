"""Uploads that are cut off leave nothing, and those that are sent again and again are stored once."""

import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.flight
import pytest

from flight_server.testing import Server, serve
from tests import flight_sql
from tests.stress.test_crash_safety import stored
from tests.stress.test_malformed_uploads import messages_of

pytestmark = [pytest.mark.stress, pytest.mark.timeout(200)]

ROUNDS = 10
CUTS_OF_A_KIND = 5  # of four kinds in each round
SETTLE_SECONDS = 20
UPLOADS, KEYS = 400, 50
TABLE = pa.table({"x": range(200_000), "s": ["text"] * 200_000})
MESSAGES = messages_of(TABLE.slice(0, 1_000), None)

# Begins several uploads and sends batches until it is killed.
SENDER = """
import sys
import pyarrow as pa, pyarrow.flight as flight
table = pa.table({"x": range(50_000), "s": ["text"] * 50_000})
clients = [flight.connect(sys.argv[1]) for _ in range(int(sys.argv[2]))]
opened = [client.do_put(flight.FlightDescriptor.for_path("damaged"), table.schema) for client in clients]
print("begun", flush=True)
while True:
    for writer, _ in opened:
        writer.write_table(table)
"""


def kill_a_sender(server: Server, choice: random.Random) -> None:
    """Cut off several uploads at once by killing the process that sends them."""
    command = [sys.executable, "-c", SENDER, server.uri, str(CUTS_OF_A_KIND)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as sender:
        assert sender.stdout.readline() == b"begun\n"
        time.sleep(choice.uniform(0, 0.5))
        sender.kill()


def cut(put: Any, kind: str, choice: random.Random) -> None:
    """Begin one upload and have it cancelled, overtaken by its deadline, or ended too early."""
    ended = threading.Event()
    whole = choice.randrange(1, len(MESSAGES))

    def sent() -> Iterator[bytes]:
        for at, message in enumerate(MESSAGES * 100):
            if ended.is_set() or (kind == "half-closed" and at == whole):
                return
            if at % len(MESSAGES) or at == 0:  # one schema only
                yield message
            ended.wait(choice.choice([0, 0, 0.005]))

    headers = (("x-lakehouse-expected-rows", "1000"),) if kind == "half-closed" else ()
    call = put(sent(), metadata=headers, timeout=choice.uniform(0.005, 0.3) if kind == "deadline" else 30)
    if kind == "cancelled":
        threading.Timer(choice.uniform(0, 0.3), call.cancel).start()
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    ended.set()
    assert caught.value.code().name in CODES[kind]


CODES = {
    "cancelled": {"CANCELLED"},
    "deadline": {"DEADLINE_EXCEEDED"},
    # Without any batch, or with some of them.
    "half-closed": {"INVALID_ARGUMENT"},
}


def state(server: Server, client: Any) -> tuple[int, int, int]:
    rows = flight_sql.query(
        client, "SELECT count(*) AS n, (SELECT count(*) FROM sys.commits) AS c FROM damaged"
    )
    return rows["n"][0].as_py(), rows["c"][0].as_py(), stored(server.data_dir)


def test_uploads_that_are_cut_off_leave_nothing(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it when the test fails
    with (
        serve(data_dir=tmp_path, telemetry={"log_level": "error"}) as server,
        grpc.insecure_channel(f"{server.host}:{server.port}") as channel,
        pyarrow.flight.connect(server.uri) as client,
    ):
        put = channel.stream_stream("/arrow.flight.protocol.FlightService/DoPut")
        list(put(iter(MESSAGES)))
        before = state(server, client)
        assert before == (1_000, 1, 1)
        for number in range(ROUNDS):
            choices = iter(random.Random(f"{seed} {number} {at}") for at in range(100))
            with ThreadPoolExecutor(3 * CUTS_OF_A_KIND + 1) as threads:
                cuts = [threads.submit(kill_a_sender, server, next(choices))]
                for kind in CODES:
                    cuts += [threads.submit(cut, put, kind, next(choices)) for _ in range(CUTS_OF_A_KIND)]
                for done in cuts:
                    done.result()
            deadline = time.monotonic() + SETTLE_SECONDS
            while (now := state(server, client)) != before and time.monotonic() < deadline:
                time.sleep(0.05)
            assert now == before


def test_many_uploads_with_few_keys_are_one_commit_for_each_key(tmp_path: Path) -> None:
    with serve(data_dir=tmp_path) as server, pyarrow.flight.connect(server.uri) as client:

        def upload(number: int) -> tuple[int, int]:
            key = number % KEYS
            options = pyarrow.flight.FlightCallOptions(headers=[(b"x-idempotency-key", str(key).encode())])
            table = pa.table({"id": [key] * 100})
            with pyarrow.flight.connect(server.uri) as own:
                path = pyarrow.flight.FlightDescriptor.for_path("t")
                writer, reader = own.do_put(path, table.schema, options)
                with writer:
                    writer.write_table(table)
                    writer.done_writing()
                    return key, json.loads(reader.read().to_pybytes())["version"]

        numbers = [*range(UPLOADS)]
        random.shuffle(numbers)
        with ThreadPoolExecutor(32) as threads:
            answers = set(threads.map(upload, numbers))
        assert sorted(version for _, version in answers) == [*range(1, KEYS + 1)]
        found = flight_sql.query(client, "SELECT id FROM t")["id"].to_pylist()
        assert Counter(found) == dict.fromkeys(range(KEYS), 100)
        commits = flight_sql.query(client, "SELECT count(*) AS n FROM sys.commits")
        assert commits["n"][0].as_py() == KEYS
        assert stored(tmp_path) == KEYS
