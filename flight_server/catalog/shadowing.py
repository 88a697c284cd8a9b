"""One name, one dataset: the newest of several with the same name wins, the others are kept as shadowed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

from sqlalchemy import ColumnElement, Connection, bindparam, case, func, or_, select, update

from flight_server.catalog.tables import datasets
from flight_server.domain.dataset import display_name


@dataclass(frozen=True, slots=True)
class NameGroup:
    """The datasets of one name, oldest first; the last one has the name."""

    namespace: str
    name: str
    members: tuple[tuple[str, str | None], ...]

    @property
    def ids(self) -> list[str]:
        """The ids of the datasets, oldest first."""
        return [id for id, _ in self.members]

    @property
    def kept(self) -> str:
        """The id of the dataset that has the name."""
        return self.members[-1][0]

    def moves(self) -> list[dict[str, str | None]]:
        """Return the members whose `shadowed_by` is not what it should be, losers first."""
        wanted = [(id, None if id == self.kept else self.kept, now) for id, now in self.members]
        return [{"dataset": id, "shadow": shadow} for id, shadow, now in wanted if shadow != now]

    def report(self) -> dict[str, object]:
        """Return the group as reports show it."""
        return {"dataset": display_name(self.namespace, self.name), "ids": self.ids, "kept": self.kept}


def find_groups(connection: Connection, renamed: Mapping[str, str] | None = None) -> list[NameGroup]:
    """Find every name that several datasets have or that a shadowed one is alone with.

    The newest `created_at` wins, the last to arrive among equals. `renamed` maps namespaces to the
    names under which their datasets compete.
    """
    namespace: ColumnElement[str] = datasets.c.namespace
    if renamed:
        namespace = case(dict(renamed), value=namespace, else_=namespace)
    size = func.count().over(partition_by=(namespace, datasets.c.lower_name))
    living = select(
        namespace.label("namespace"),
        *datasets.c["id", "name", "lower_name", "created_at", "arrival", "shadowed_by"],
        size.label("size"),
    ).where(datasets.c.dropped.is_(None))
    named = living.subquery()
    rows = connection.execute(
        select(named)
        .where(or_(named.c.size > 1, named.c.shadowed_by.is_not(None)))
        .order_by(named.c.namespace, named.c.lower_name, named.c.created_at, named.c.arrival)
    )
    groups = []
    for (space, _), found in groupby(rows, key=lambda row: (row.namespace, row.lower_name)):
        members = list(found)
        groups.append(NameGroup(space, members[-1].name, tuple((row.id, row.shadowed_by) for row in members)))
    return groups


def shadow(connection: Connection, groups: Iterable[NameGroup]) -> bool:
    """Give each name to its winner; tell whether anything had to change."""
    moves = [move for group in groups for move in group.moves()]
    if moves:
        connection.execute(
            update(datasets)
            .where(datasets.c.id == bindparam("dataset"))
            .values(shadowed_by=bindparam("shadow")),
            moves,
        )
    return bool(moves)
