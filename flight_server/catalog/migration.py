"""Brings refs that were written before buckets existed into canonical form, set by set.

A ref's bucket field and a legacy URL in its key mean the same object before and after, so no version
moves. The run itself is a commit, however: `newest_commit` changes and readers look again.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, and_, case, delete, func, insert, literal, select, update

from flight_server.catalog.commits import insert_commit
from flight_server.catalog.shadowing import find_groups, shadow
from flight_server.catalog.spaces import ensure_namespaces
from flight_server.catalog.sqlite import position
from flight_server.catalog.tables import datasets, former_names, migrations, namespaces, object_refs
from flight_server.domain.bucket import BucketRegistry

_PRINCIPAL = "migrate"


def _url_head() -> ColumnElement[str]:
    """Build the expression for the part of a key that names a bucket, '' for a key that is not a URL.

    It agrees with `BucketRegistry.split_legacy_url`.
    """
    key = object_refs.c.key
    named, sanitised = literal("lakehouse://"), literal("lakehouse-")
    slash = position(func.substr(key, 13), "/")
    rest = func.substr(key, 11)
    mark = position(rest, "://")
    name = func.substr(rest, 1, mark - 1)
    is_named = and_(func.substr(key, 1, 12) == named, slash > 1, func.length(key) > 12 + slash)
    is_sanitised = and_(
        func.substr(key, 1, 10) == sanitised,
        mark > 1,
        position(name, ":") == 0,
        position(name, "/") == 0,
        func.length(key) > 12 + mark,
    )
    return case(
        (is_named, func.substr(key, 1, 12 + slash)),
        (is_sanitised, func.substr(key, 1, 12 + mark)),
        else_="",
    )


@dataclass(slots=True)
class _Census:
    """What the refs look like: the report's counts, and how to rewrite them.

    `heads` maps the URL heads that are known to canonical buckets, `aliases` the bucket fields of
    refs without a URL.
    """

    renamed: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    already_canonical: int = 0
    urls_rewritten: int = 0
    heads: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)

    def count(self, registry: BucketRegistry, written: str, head: str, refs: int) -> None:
        """Count refs that share a bucket field and a URL head."""
        canonical, name, _ = registry.locate(written, f"{head}key")
        if canonical is None:
            self.unknown[name] += refs
            return
        if head:
            self.heads[head] = canonical
            self.urls_rewritten += refs
        elif canonical != written:
            self.aliases[written] = canonical
        if canonical == written:
            self.already_canonical += refs
        else:
            self.renamed[written] += refs

    def report(self) -> dict[str, object]:
        """Return the counts as the report shows them."""
        return {
            "total": self.renamed.total() + self.already_canonical + self.unknown.total(),
            "renamed": dict(sorted(self.renamed.items())),
            "already_canonical": self.already_canonical,
            "urls_rewritten": self.urls_rewritten,
            "unknown": [{"bucket": name, "count": refs} for name, refs in sorted(self.unknown.items())],
        }


def migrate(connection: Connection, registry: BucketRegistry, *, dry_run: bool) -> dict[str, object]:
    """Rewrite aliases and legacy URLs to canonical buckets and keys, and report what was found.

    Unknown names are reported and their refs left as they are. Namespaces that carry an alias as
    their name give their datasets to the canonical one, where the newest of a name wins. Only a run
    that changes something is logged. The caller owns the transaction.
    """
    census = _take_census(connection, registry)
    spaces = _alias_namespaces(connection, registry)
    groups = find_groups(connection, spaces)
    report = {
        **census.report(),
        "duplicates": [group.report() for group in groups if len(group.ids) > 1],
        "dry_run": dry_run,
    }
    if dry_run:
        return report
    _rewrite_refs(connection, census)
    shadowed = shadow(connection, groups)
    _merge_namespaces(connection, spaces)
    if census.heads or census.aliases or spaces or shadowed:
        insert_commit(connection, _PRINCIPAL, "migrate to canonical buckets")
        connection.execute(insert(migrations), {"at": datetime.now(UTC), "report": report})
    return report


def _take_census(connection: Connection, registry: BucketRegistry) -> _Census:
    bucket, head = object_refs.c.bucket, _url_head().label("head")
    census = _Census()
    for row in connection.execute(select(bucket, head, func.count().label("refs")).group_by(bucket, head)):
        census.count(registry, row.bucket, row.head, row.refs)
    return census


def _alias_namespaces(connection: Connection, registry: BucketRegistry) -> dict[str, str]:
    # A namespace bound to a bucket of another name is a schema somebody made; its name stays.
    own = select(namespaces.c.name).where(namespaces.c.name == namespaces.c.bucket)
    found = {name: registry.canonical(name) for name in connection.execute(own).scalars()}
    return {name: canonical for name, canonical in found.items() if canonical not in (None, name)}


def _rewrite_refs(connection: Connection, census: _Census) -> None:
    refs = object_refs
    if census.heads:
        head = _url_head()
        connection.execute(
            update(refs)
            .where(head.in_(census.heads))
            .values(
                bucket=case(census.heads, value=head),
                key=func.substr(refs.c.key, func.length(head) + 1),
            )
        )
    if census.aliases:
        connection.execute(
            update(refs)
            .where(refs.c.bucket.in_(census.aliases), _url_head() == "")
            .values(bucket=case(census.aliases, value=refs.c.bucket))
        )


def _merge_namespaces(connection: Connection, spaces: Mapping[str, str]) -> None:
    if not spaces:
        return
    ensure_namespaces(connection, {canonical: canonical for canonical in spaces.values()})
    for table in (datasets, former_names):
        connection.execute(
            update(table)
            .where(table.c.namespace.in_(spaces))
            .values(namespace=case(dict(spaces), value=table.c.namespace))
        )
    connection.execute(delete(namespaces).where(namespaces.c.name.in_(spaces)))
