"""Reads case files: TOML with statements, the columns and rows they give, or the error they provoke."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "cases"

_TABLE = "<t>"
"""Stands for the name of a table that no other case uses."""

_EXPECTED = {"error", "message"}
_ANSWER = {"columns", "rows", "matches", "unordered"} | _EXPECTED
_EVERYWHERE = {"outside"}

KEYS: Mapping[str, set[str]] = {
    "query": {"bind", "parameters", "prepared"} | _ANSWER,
    "returning": {"bind"} | _ANSWER,
    "update": {"bind", "count"} | _EXPECTED,
    "ingest": {"mode", "schema", "catalog", "temporary", "columns", "rows", "count"} | _EXPECTED,
    "call": {"with", "select"} | _ANSWER,
    "transaction": _EXPECTED,
    "set_options": {"errors"} | _EXPECTED,
    "show_options": set(),
    "close_session": set(),
    "poll": _ANSWER,
    "cancel": {"by"},
    "unread": set(),
    "send": {"body", "with", "hex"} | _EXPECTED,
}
"""What a step does → what else it may say."""

_ROUTES = ("update", "prepared info")
"""How statements with effects are sent, unless the case says `routes`."""

_CASE = {"name", "steps", "tables", "headers", "routes"}


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a case does: `kind` is a key of `KEYS`, `subject` what stands there."""

    kind: str
    subject: Any
    said: Mapping[str, Any]

    def get(self, key: str, otherwise: Any = None) -> Any:
        """Return what the step says of a thing."""
        return self.said.get(key, otherwise)


@dataclass(frozen=True, slots=True)
class Case:
    """Steps that belong together; independent of all other cases.

    `tables` are dropped at the end, `headers` go with every call. `routes` are the ways in which it is run:
    `adbc`, `both ways`, or one of `flight_session.ROUTES`.
    """

    name: str
    steps: tuple[Step, ...]
    tables: tuple[str, ...]
    headers: Mapping[str, str]
    routes: tuple[str, ...]
    is_extension: bool

    def named(self, table: str) -> "Case":
        """Return the case with the name of its table put in."""
        steps = tuple(
            Step(step.kind, _put_in(step.subject, table), _put_in(step.said, table)) for step in self.steps
        )
        tables = tuple(name.replace(_TABLE, table) for name in self.tables)
        return Case(self.name, steps, tables, self.headers, self.routes, self.is_extension)


def _put_in(value: Any, table: str) -> Any:
    if isinstance(value, str):
        return value.replace(_TABLE, table)
    if isinstance(value, dict):
        return {key: _put_in(item, table) for key, item in value.items()}
    return [_put_in(item, table) for item in value] if isinstance(value, list) else value


def load() -> Iterator[Case]:
    """Yield the cases of all files. Raises ValueError where a file says something that nothing reads."""
    for path in sorted(FOLDER.glob("*.toml")):
        content = tomllib.loads(path.read_text())
        unknown = content.keys() - {"extension", "clients", "case"}
        if unknown:
            raise ValueError(f"{path.name}: {', '.join(unknown)}")
        for case in content["case"]:
            yield _case(path.stem, case, content)


def _case(file: str, case: Mapping[str, Any], content: Mapping[str, Any]) -> Case:
    name = f"{file}: {case['name']}"
    alone = {key: value for key, value in case.items() if key not in _CASE}
    written = case.get("steps", [alone])
    steps = tuple(_step(name, step) for step in written)
    if "steps" in case and alone:
        raise ValueError(f"{name}: {', '.join(alone)} beside steps")
    headers = case.get("headers", {})
    routes = _routes(steps, case.get("routes", _ROUTES), content.get("clients", ["flight"]))
    is_extension = content.get("extension", False)
    return Case(name, steps, tuple(case.get("tables", ())), headers, routes, is_extension)


def _routes(steps: Sequence[Step], sent: Sequence[str], clients: Sequence[str]) -> tuple[str, ...]:
    """Return the ways in which a case is run: where statements have effects, it matters how they are sent."""
    has_effects = any(step.kind in ("update", "returning") for step in steps)
    by_client = {"flight": sent if has_effects else ["both ways"], "adbc": ["adbc"]}
    return tuple(route for client in clients for route in by_client[client])


def _step(case: str, step: Mapping[str, Any]) -> Step:
    kinds = step.keys() & KEYS.keys()
    if len(kinds) != 1:
        raise ValueError(f"{case}: a step does one thing, not {sorted(kinds)}")
    kind = kinds.pop()
    said = {key: value for key, value in step.items() if key != kind}
    unknown = said.keys() - KEYS[kind] - _EVERYWHERE
    if unknown:
        raise ValueError(f"{case}: {kind} says nothing of {', '.join(sorted(unknown))}")
    return Step(kind, step[kind], said)
