"""Which parameters an index of each kind takes, and what each may be; the names are LanceDB's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.types as pat

from flight_server.domain.vector import IndexKind
from flight_server.errors import InvalidArgumentError

FILTER_COLUMNS = "filter_columns"

_AUTO_HNSW_ROWS = 250_000
_TAKEN = frozenset({"object", "row", "vector", "text"})

_Test = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class _Rule:
    said: str
    holds: _Test


def _whole(low: int, high: int) -> _Rule:
    return _Rule(
        f"a whole number from {low} to {high}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high,
    )


def _one_of(*values: object) -> _Rule:
    return _Rule(f"one of {', '.join(str(value) for value in values)}", lambda value: value in values)


_FLAG = _Rule("true or false", lambda value: isinstance(value, bool))

_IVF = {
    "num_partitions": _whole(1, 100_000),
    "max_iterations": _whole(1, 1_000),
    "sample_rate": _whole(2, 65_536),
    "target_partition_size": _whole(1, 100_000_000),
}
_HNSW_DEFAULTS: Mapping[str, object] = {"num_partitions": 1, "m": 16, "ef_construction": 200}
_HNSW = {**_IVF, "m": _whole(2, 256), "ef_construction": _whole(2, 10_000)}
_TEXT = {
    "base_tokenizer": _one_of("simple", "whitespace", "raw", "ngram"),
    "language": _one_of(
        *("Arabic", "Danish", "Dutch", "English", "Finnish", "French", "German", "Greek", "Hungarian"),
        *(
            "Italian",
            "Norwegian",
            "Portuguese",
            "Romanian",
            "Russian",
            "Spanish",
            "Swedish",
            "Tamil",
            "Turkish",
        ),
    ),
    "with_position": _FLAG,
    "max_token_length": _whole(1, 1_000),
    "lower_case": _FLAG,
    "stem": _FLAG,
    "remove_stop_words": _FLAG,
    "ascii_folding": _FLAG,
    "ngram_min_length": _whole(1, 100),
    "ngram_max_length": _whole(1, 100),
    "prefix_only": _FLAG,
}


@dataclass(frozen=True, slots=True)
class Kind:
    """How LanceDB calls a kind of index, what it takes, and what is used where nothing is said.

    `refine` times k rows are compared by their own vectors, since quantised ones are only close to them: with
    2 instead of 1 the recall of hnsw_sq rises from .96 to 1.0, and a search takes no longer.
    """

    name: str
    rules: Mapping[str, _Rule]
    defaults: Mapping[str, object]
    refine: int = 1


KINDS: Mapping[IndexKind, Kind] = {
    IndexKind.HNSW_SQ: Kind("HnswSq", _HNSW, _HNSW_DEFAULTS, 2),
    IndexKind.HNSW_FLAT: Kind("HnswFlat", _HNSW, _HNSW_DEFAULTS),
    IndexKind.IVF_RQ: Kind("IvfRq", {**_IVF, "num_bits": _whole(1, 8)}, {}, 8),
    IndexKind.IVF_SQ: Kind("IvfSq", _IVF, {}, 2),
    IndexKind.IVF_PQ: Kind(
        "IvfPq", {**_IVF, "num_sub_vectors": _whole(1, 65_536), "num_bits": _one_of(4, 8)}, {}, 8
    ),
    IndexKind.IVF_FLAT: Kind("IvfFlat", _IVF, {}),
    IndexKind.FTS: Kind("FTS", _TEXT, {}),
}


def chosen_kind(kind: IndexKind, rows: int) -> IndexKind:
    """Return the kind that `auto` means for so many rows: one that is built fast when there are many."""
    if kind is not IndexKind.AUTO:
        return kind
    return IndexKind.HNSW_SQ if rows <= _AUTO_HNSW_ROWS else IndexKind.IVF_SQ


def checked(kind: IndexKind, params: Mapping[str, object], schema: pa.Schema) -> Mapping[str, object]:
    """Return the parameters of a build, with the real names of its columns. Raises InvalidArgumentError."""
    rules = KINDS[kind].rules
    for name, value in params.items():
        if name == FILTER_COLUMNS:
            continue
        if name not in rules:
            known = ", ".join([*rules, FILTER_COLUMNS])
            raise InvalidArgumentError(f"an index of type {kind} has no parameter {name!r}; it has: {known}")
        if not rules[name].holds(value):
            raise InvalidArgumentError(
                f"parameter {name} must be {rules[name].said}, not {str(value)[:80]!r}"
            )
    columns = _filter_columns(params.get(FILTER_COLUMNS, ()), schema)
    return {**params, FILTER_COLUMNS: columns} if columns else {**params}


def _filter_columns(named: object, schema: pa.Schema) -> list[str]:
    if isinstance(named, str) or not isinstance(named, list | tuple):
        raise InvalidArgumentError(f"parameter {FILTER_COLUMNS} must be a list of names of columns")
    own = {field.name.lower(): field for field in schema}
    plain = {
        name: field for name, field in own.items() if not pat.is_nested(field.type) and name not in _TAKEN
    }
    odd = [name for name in named if str(name).lower() not in plain]
    if odd:
        there = ", ".join(field.name for field in plain.values()) or "none"
        raise InvalidArgumentError(
            f"parameter {FILTER_COLUMNS} names {str(odd[0])[:80]!r}, which an index cannot hold; "
            f"it can: {there}"
        )
    return list(dict.fromkeys(plain[str(name).lower()].name for name in named))


def build_arguments(kind: IndexKind, params: Mapping[str, object]) -> dict[str, object]:
    """Return what LanceDB's class of this kind takes, but for the metric."""
    given = {name: value for name, value in params.items() if name != FILTER_COLUMNS}
    return {**KINDS[kind].defaults, **given}
