"""`flight-server profiles`, as it is typed: what it prints, what it draws, and how it fails."""

import re
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from click.testing import CliRunner, Result

from flight_server.cli import main
from flight_server.testing import Server
from tests.actions import act, put, vectors

pytestmark = pytest.mark.slow

ROWS, DIM = 200, 8
VECTORS = np.random.default_rng(5).standard_normal((ROWS, DIM)).astype(np.float32)

Type = Callable[..., Result]


@pytest.fixture(scope="module")
def lab(server: Server) -> Iterator[Server]:
    """A server whose profile `ann` has vectors and an eval set for them."""
    with flight.connect(server.uri) as client:
        act(client, "create_profile", profile="ann")
        docs = pa.table({"id": range(ROWS), "vector": vectors(VECTORS.tolist())})
        put(client, ["profile:ann", "docs"], docs)
        put(client, ["profile:ann", "words"], pa.table({"word": ["rain", "sun"]}))
        queries = [{"id": str(at), "vector": VECTORS[at].tolist()} for at in range(10)]
        act(client, "put_eval_set", profile="ann", name="own", table="docs", queries=queries)
        yield server
        act(client, "drop_profile", profile="ann")


@pytest.fixture
def typed(lab: Server) -> Type:
    """Type a command of the group; `terminal=True` makes it believe that somebody watches."""

    def run(*words: str, terminal: bool = False, answer: str = "") -> Result:
        environment = {"FORCE_COLOR": "1" if terminal else None, "NO_COLOR": None}
        command = ["profiles", *words, "--uri", lab.uri]
        return CliRunner(env=environment).invoke(main, command, input=answer)

    return run


def said(done: Result) -> str:
    """Return what a command that ended well has printed, with single spaces."""
    assert (done.exit_code, done.stderr) == (0, ""), done.output
    return " ".join(done.stdout.split())


def png_size(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n")
    width, height = struct.unpack(">II", data[16:24])
    return int(width), int(height)


def test_profiles_are_made_listed_and_dropped(typed: Type, unique_name: str) -> None:
    assert said(typed("create", unique_name)) == f"profile {unique_name} has bucket profile:{unique_name}"
    assert f"{unique_name} profile:{unique_name} 0 0 0 20" in said(typed("list"))
    assert said(typed("activate", unique_name)).endswith(
        "has no table with vectors: there is nothing to load"
    )
    refused = typed("drop", unique_name, answer="n\n")
    assert (refused.exit_code, refused.stderr) == (1, "Aborted!\n")
    assert "is gone, with 0 objects of 0 bytes" in said(typed("drop", unique_name, answer="y\n"))
    assert unique_name not in said(typed("list"))


@pytest.mark.slow
def test_a_trial_is_run_promoted_and_drawn(typed: Type, tmp_path: Path) -> None:
    chart = tmp_path / "ann.png"
    assert "docs.vector: ivf_sq of 200 rows in" in said(typed("index", "ann", "docs", "--type", "ivf_sq"))
    settings = ["--search", '{"nprobes": 1, "refine": 2}', "--search", "{}"]
    measured = said(typed("trial", "ann", "docs", "own", "--type", "ivf_flat", *settings, "--k", "5"))
    assert "trial search recall p50 ms p99 ms qps" in measured
    trial, *_ = re.findall(r"([0-9a-f]{32}) nprobes 1, refine 2 1\.000", measured)
    promoted = said(typed("promote", "ann", trial))
    assert promoted == "docs.vector: ivf_flat of 200 rows; searches use it with nprobes 1, refine 2"
    assert "shows 2 of 2 trials of profile ann" in said(
        typed("report", "PROFILE:ann", "--output", str(chart))
    )
    _, height = png_size(chart)
    said(typed("trial", "ann", "docs", "own"))
    typed("report", "ann", "--table", "docs", "--output", str(chart))
    assert png_size(chart)[1] > 1.5 * height, "another k has a panel of its own"
    assert "docs vector ivf_flat 200 8" in said(typed("activate", "ann"))
    nowhere = typed("report", "ann", "--output", str(tmp_path / "no" / "x.png"))
    assert (nowhere.exit_code, nowhere.stderr[:33]) == (1, "Error: No such file or directory:")


@pytest.mark.slow
def test_progress_is_shown_to_those_who_watch(typed: Type) -> None:
    done = typed("trial", "ann", "docs", "own", terminal=True)
    assert done.exit_code == 0
    for shown in ("measuring searches", "100%"):  # phases of milliseconds may not be drawn
        assert shown in done.stderr
    assert "measuring" not in done.stdout


def test_texts_are_embedded(typed: Type) -> None:
    pytest.importorskip("wordllama")
    done = typed("embed", "ann", "words", "word", "--vector-column", "meaning", terminal=True)
    assert (done.exit_code, done.stdout) == (0, "words.meaning: 2 texts are embedded\n")
    assert "2 of 2" in done.stderr
    again = said(typed("embed", "ann", "words", "word", "--vector-column", "meaning"))
    assert again == "words.meaning: no text was left to embed"


ERRORS: dict[str, tuple[list[str], str]] = {
    "unknown profile": (["activate", "bob"], "no profile 'bob'"),
    "unknown profile of a report": (["report", "bob"], "no profile 'bob'; `flight-server profiles list`"),
    "unknown profile to drop": (["drop", "bob"], "no profile 'bob'"),
    "taken": (["create", "ann"], "profile ann already exists: choose another name"),
    "no trial": (["report", "user"], "no trial of profile user has ended well: run one with"),
    "no trial of a table": (["report", "ann", "--table", "x"], "no trial of profile ann of table x has"),
    "unknown table": (["index", "ann", "nothing"], "no table 'profile:ann.nothing'"),
    "not a text": (["embed", "ann", "docs", "id"], "column 'id' is int64: vectors are made of texts"),
    "unknown parameter": (["index", "ann", "docs", "--params", '{"x": 1}'], "no parameter 'x'"),
    "unknown setting": (["trial", "ann", "docs", "own", "--search", '{"x": 1}'], "ef, nprobes, refine"),
    "unknown eval set": (["trial", "ann", "docs", "x"], "store one with the action put_eval_set"),
    "unknown trial": (["promote", "ann", "x"], "no trial 'x': FROM sys.trials lists them"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_a_refusal_is_one_line(typed: Type, case: str) -> None:
    words, text = ERRORS[case]
    done = typed(*words)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("Error: ")
    assert text in done.stderr


USAGE: dict[str, tuple[list[str], str]] = {
    "type": (["index", "ann", "docs", "--type", "tree"], "'tree' is not one of 'auto', 'hnsw_sq'"),
    "not JSON": (["index", "ann", "docs", "--params", "m=3"], """'m=3' is not JSON, such as {"ef": 64}"""),
    "no object": (["trial", "ann", "docs", "own", "--search", "[1]"], "'[1]' is no JSON object"),
    "k": (["trial", "ann", "docs", "own", "--k", "0"], "0 is not in the range x>=1"),
    "missing": (["promote", "ann"], "Missing argument 'TRIAL_ID'"),
}


@pytest.mark.parametrize("case", USAGE)
def test_a_mistake_in_the_command_ends_with_code_2(typed: Type, case: str) -> None:
    words, text = USAGE[case]
    done = typed(*words)
    assert done.exit_code == 2
    assert text in done.stderr


@pytest.mark.parametrize(
    ("address", "code", "text"),
    [
        ("grpc://127.0.0.1:1", 1, "no server answers at grpc://127.0.0.1:1: start one with"),
        ("127.0.0.1:31337", 2, "is no address of a server; one is grpc://127.0.0.1:31337"),
        ("grpc://127.0.0.1:port", 2, "is no address of a server"),
    ],
)
@pytest.mark.parametrize("command", [["list"], ["report", "user"], ["drop", "user", "--yes"]])
def test_no_server_is_said(command: list[str], address: str, code: int, text: str) -> None:
    done = CliRunner().invoke(main, ["profiles", *command, "--uri", address])
    assert (done.exit_code, done.stdout) == (code, "")
    assert text in done.stderr


def test_a_report_without_matplotlib_says_what_to_install(
    typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "flight_server.cli.chart", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    done = typed("report", "ann")
    assert done.exit_code == 1
    assert done.stderr == "Error: drawing needs matplotlib: pip install 'flight-server[report]'\n"


def test_every_command_says_how_it_is_used() -> None:
    group: Any = main.get_command(None, "profiles")
    for name in ("create", "drop", "list", "activate", "index", "embed", "trial", "promote", "report"):
        assert name in group.list_commands(None)
        done = CliRunner().invoke(main, ["profiles", name, "--help"])
        assert done.exit_code == 0
        assert f"profiles {name} [OPTIONS]" in done.stdout
    for name in ("index", "embed", "trial", "report"):
        text = CliRunner().invoke(main, ["profiles", name, "--help"]).stdout
        assert f"  flight-server profiles {name} ann" in text
