"""A statement that is ready to run over one set of relations, and what stands in it for names."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flight_server.engine import quote
from flight_server.engine.functions import Need
from flight_server.engine.searches import ReadySearch
from flight_server.engine.splice import Place
from flight_server.frames.requests import TableName, is_system, is_version

_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]*")


def weight(sql: str) -> int:
    """Return about how many bytes a text takes with what is known of it."""
    return 1_000 + 100 * len(sql)


def written(path: Sequence[str]) -> str:
    """Write a name as DuckDB does in the names of expressions: quoted only where it must be."""
    return ".".join(part if _PLAIN_NAME.fullmatch(part) else quote.identifier(part) for part in path)


@dataclass(frozen=True, slots=True)
class Ready:
    """A statement over one set of relations: its text, and what its column names must not show.

    `asked` are the names that the gateway resolved, `pins` all relations that must stay, and
    `reads` counts the places that name a table, `variables` are the names of those that it reads (None where
    any may be), in all three those inside views too. `need` is what the text must
    be told of the catalog; `is_shared` says that it means the same in every session.
    """

    sql: str
    places: Mapping[TableName, Place]
    asked: tuple[TableName, ...]
    pins: tuple[str, ...]
    reads: int
    variables: frozenset[str] | None
    is_shared: bool
    need: Need
    searches: tuple[ReadySearch, ...] = ()

    @property
    def versions(self) -> tuple[str, ...]:
        """The relations that are dataset versions."""
        return tuple(relation for relation in self.pins if is_version(relation))

    @property
    def system_tables(self) -> tuple[str, ...]:
        """The relations that are system tables."""
        return tuple(relation for relation in self.pins if is_system(relation))

    def shown(self, name: str) -> str:
        """Return a text of DuckDB's with the client's dataset names in the place of hidden ones."""
        for table, place in self.places.items():
            if not place.path:
                continue
            schema, relation = place.path
            hidden = rf'(?:lakehouse\.)?"?{schema}"?\.{re.escape(quote.identifier(relation))}'
            alias = re.escape(written(table.path[-1:]))
            client_name = written(table.path).replace("\\", r"\\")
            name = re.sub(rf'{hidden}(?: AS {alias}(?![\w"]))?', client_name, name)
        return name


@dataclass(frozen=True, slots=True)
class Written:
    """What stands for the dataset that a statement writes: `table` where it is written.

    Elsewhere the dataset's `relation` is read, or what stands `instead` of it.
    """

    table: Place
    relation: str
    instead: Place | None = None
