"""Every hostile statement by every kind of caller, and mutations of them; the seed is printed."""

import json
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from tests.security import corpus
from tests.security.mutate import Mutator
from tests.security.test_tenants import attack, attack_routes
from tests.security.world import ANONYMOUS, CALLERS, MARK, OWNER, World, foreign, world

pytestmark = [pytest.mark.stress, pytest.mark.timeout(600)]

MUTATIONS = 5_000
SEED = int(os.environ.get("SECURITY_SEED", random.randrange(1 << 32)))
"""Another run with the same statements: `SECURITY_SEED=…`."""

LEAST = 250


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("corpus")) as made:
        _keep_a_journal(made)
        yield made


def _keep_a_journal(tenants: World) -> None:
    """Have the hidden tenant measure an index: eval sets, trials, one that fails, and what is in memory."""
    owner = tenants.client(OWNER)
    queries = [{"id": f"{MARK} query", "vector": [0.0, 1.0]}]
    asked = {"profile": "somebody", "table": "docs"}
    trial = {**asked, "eval_set": MARK, "index": {"type": "ivf_flat"}, "search": [{}], "k": 1}
    for action, body in (
        ("put_eval_set", {**asked, "name": MARK, "queries": queries}),
        ("run_trial", trial),
        ("activate_profile", {"profile": "somebody"}),
    ):
        done = owner.action(action, json.dumps(body).encode(), timeout=60)
        assert done.is_ok, done.details
    failed = {**trial, "search": [{"nprobes": 100_000}], "eval_set": f"{MARK}-wrong"}
    assert not owner.action("run_trial", json.dumps(failed).encode(), timeout=60).is_ok
    for table in ("sys.trials", "sys.profiles"):
        assert foreign(owner.sql(f"FROM {table}")), table


@pytest.fixture
def places(tenants: World, tmp_path: Path) -> Iterator[corpus.Places]:
    """Where statements reach for; afterwards nothing of it has been touched."""
    found = corpus.Places(tuple(tenants.files.values()), tmp_path / "made", tenants.listener.port)
    yield found
    assert not found.made.exists()
    tenants.check_untouched()


@pytest.mark.parametrize("user", [*CALLERS, ANONYMOUS])
def test_every_statement(tenants: World, places: corpus.Places, user: str) -> None:
    statements = corpus.filled([*corpus.by_kind(), *corpus.by_relation()], places)
    assert len(statements) >= LEAST
    attack(tenants, user, statements)


@pytest.mark.parametrize("user", [*CALLERS, ANONYMOUS])
def test_every_function(tenants: World, places: corpus.Places, user: str) -> None:
    attack(tenants, user, [next(places.fill(statement)) for statement in corpus.by_function()])


@pytest.mark.parametrize("user", [*CALLERS, ANONYMOUS])
def test_every_route(tenants: World, places: corpus.Places, user: str) -> None:
    attack_routes(tenants, user)


@pytest.mark.parametrize("user", CALLERS)
def test_mutations(tenants: World, places: corpus.Places, user: str) -> None:
    sys.stdout.write(f"seed {SEED} of mutations\n")
    bases = [*corpus.by_kind(), *corpus.by_relation(), *corpus.by_function()]
    mutator = Mutator(bases, SEED + [*CALLERS].index(user))
    attack(tenants, user, [next(places.fill(mutator.next())) for _ in range(MUTATIONS // len(CALLERS))])


def test_every_kind_of_statement_is_in_the_corpus() -> None:
    kinds = set(duckdb.StatementType.__members__)
    assert kinds <= set(corpus.BY_KIND)
