"""Storage fails now and then while indexes are built or caught up, or columns embedded."""

import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest
from adbc_driver_flightsql import dbapi

from flight_server.domain import faults
from flight_server.testing import serve
from tests import flight_sql
from tests.actions import act, act_all, put
from tests.stress.searches import ROWS, SETTINGS, check_searches, docs, plan

pytestmark = [pytest.mark.stress, pytest.mark.timeout(300)]

ROUNDS, MORE, CATCH_UP_SECONDS = 10, 100, 15.0
UNREADABLE = "of bucket profile:user cannot be read"
FAULTS = {
    "storage-eio:every-41": ("bucket profile:user cannot be used: Input/output error", UNREADABLE),
    "storage-enospc:every-53": ("bucket profile:user has no space left", UNREADABLE),
}


class Rounds:
    """What is done again and again while storage fails; counts what went well and what did not."""

    def __init__(self, uri: str, client: Any, said: tuple[str, ...], choice: random.Random) -> None:
        self.uri, self.client, self.said, self.choice = uri, client, said, choice
        self.rows = ROWS
        self.outcomes: Counter[str] = Counter()

    def attempt(self, name: str, **body: Any) -> None:
        """Run an action, which may fail only with what storage says."""
        try:
            act(self.client, name, **body)
        except (pa.ArrowException, flight.FlightError) as error:
            self.refused(name, str(error))
        else:
            self.outcomes[name] += 1

    def refused(self, name: str, error: str) -> None:
        assert any(said in error for said in self.said), f"{name}: {error}"
        assert "/" not in error.partition("Detail:")[0].replace("Input/output", ""), f"a path: {error}"
        self.outcomes[f"{name} failed"] += 1

    def go(self) -> None:
        """Build, append or embed, and search before the index has caught up, and after."""
        self.choice.choice([self.build, self.append, self.append, self.embed])()
        self.search()
        self.catch_up()
        self.search()

    def build(self) -> None:
        self.attempt("create_vector_index", profile="user", table="docs", type="ivf_flat")

    def append(self) -> None:
        try:
            put(self.client, ("profile:user", "docs"), docs(self.rows, MORE), mode="append")
        except (pa.ArrowException, flight.FlightError) as error:
            self.refused("append", str(error))
        else:
            self.rows += MORE
            self.outcomes["append"] += 1

    def embed(self) -> None:
        asked = {"profile": "user", "table": "notes", "text_column": "text"}
        self.attempt("embed_column", vector_column=f"v{self.outcomes['embed_column']}", **asked)

    def search(self) -> None:
        try:
            self.rows = check_searches(self.uri, "user", self.rows, self.choice)
        except dbapi.Error as error:
            self.refused("search", str(error))
        else:
            self.outcomes["search"] += 1

    def catch_up(self) -> None:
        """Wait until the index knows all rows, or says why not."""
        sql = "SELECT lag_versions, error FROM sys.profiles WHERE \"table\" = 'docs' AND index_type <> 'none'"
        until = time.monotonic() + CATCH_UP_SECONDS
        while rows := flight_sql.query(self.client, sql).to_pylist():
            if rows[0]["error"] is not None:
                self.refused("catching up", rows[0]["error"])
                return
            if not rows[0]["lag_versions"]:
                self.outcomes["catching up"] += 1
                return
            assert time.monotonic() < until, "the index does not catch up, and does not say why"
            time.sleep(0.05)


def test_storage_that_fails_now_and_then_makes_no_search_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(2**32)))
    print(f"SEED={seed}")  # noqa: T201 - pytest shows it when the test fails
    choice = random.Random(seed)
    fault = choice.choice([*FAULTS])
    with serve(data_dir=tmp_path) as server, flight.connect(server.uri) as client:
        put(client, ("profile:user", "docs"), docs(0, ROWS))
        put(client, ("profile:user", "notes"), docs(0, 200).select(["id", "text"]))
    monkeypatch.setenv(faults.VARIABLE, fault)
    with serve(data_dir=tmp_path, vectors=SETTINGS) as server, flight.connect(server.uri) as client:
        rounds = Rounds(server.uri, client, FAULTS[fault], choice)
        rounds.build()
        for _ in range(ROUNDS):
            rounds.go()
        print(dict(rounds.outcomes))  # noqa: T201
    monkeypatch.delenv(faults.VARIABLE)
    assert sum(count for name, count in rounds.outcomes.items() if name.endswith("failed")) >= 3
    with serve(data_dir=tmp_path, vectors=SETTINGS) as server, flight.connect(server.uri) as client:
        healed = Rounds(server.uri, client, (), choice)
        healed.rows = rounds.rows
        for step in (healed.build, healed.append, healed.search, healed.catch_up, healed.search):
            step()
        assert "index" in plan(server.uri, "user")
        act_all(client, "sweep", older_than_s=0)
        kept = {path.name.partition(".")[0] for path in tmp_path.glob("**/vectors/*")}
        assert len(kept) == 1, kept
