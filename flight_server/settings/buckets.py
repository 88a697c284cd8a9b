"""The buckets of a server, and what can be wrong with them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ByteSize, ValidationError

from flight_server.domain.bucket import (
    PRIMARY,
    PROFILE_PATTERN,
    RESERVED_NAMES,
    BucketPattern,
    is_valid_name,
)
from flight_server.domain.location import local_root, pattern
from flight_server.settings.section import Section

PRIMARY_ALIASES = ("", "data", "local")
"""Names that catalogs written before buckets existed use for `primary`."""


class BucketSettings(Section):
    """One bucket: `uri` is a local folder or a `file://` URI.

    `aliases` left out means none, except for `primary`, which then has those of `PRIMARY_ALIASES`
    that no other bucket uses. `quota_bytes` is what its objects may take, older versions included; that of
    a pattern holds for each bucket.
    """

    uri: str
    aliases: tuple[str, ...] | None = None
    read_only: bool = False
    quota_bytes: ByteSize | None = None

    @property
    def root(self) -> Path:
        """The folder that `uri` names, absolute and without symbolic links.

        Raises ValueError when this version cannot serve the URI.
        """
        return local_root(self.uri)

    @property
    def pattern(self) -> BucketPattern:
        """What makes buckets of a `uri` in which `{name}` is a folder. Raises ValueError for others."""
        return pattern(self.uri, read_only=self.read_only, quota_bytes=self.quota_bytes)


def default_buckets(data_dir: Path) -> dict[str, BucketSettings]:
    """Return the buckets of a server whose configuration names none."""
    folders = {
        PRIMARY: "primary",
        "testing": "_testing",
        "profile:user": "_profile_user",
        PROFILE_PATTERN: "_profiles/{name}",
    }
    return {name: BucketSettings(uri=str(data_dir / folder)) for name, folder in folders.items()}


def aliases(name: str, buckets: Mapping[str, BucketSettings]) -> tuple[str, ...]:
    """Return the aliases of a bucket, those that are its own without being written too."""
    written = buckets[name].aliases
    if written is not None:
        return written
    if name != PRIMARY:
        return ()
    taken = {*buckets, *(alias for bucket in buckets.values() for alias in bucket.aliases or ())}
    return tuple(alias for alias in PRIMARY_ALIASES if alias not in taken)


def bucket_problems(tree: Any) -> Iterator[str]:
    """Yield what is wrong between buckets and in their names; what is in one is left to pydantic."""
    if not isinstance(tree, dict):
        return
    if PRIMARY not in tree:
        yield f"buckets: there must be one named {PRIMARY!r}"
    for name in tree:
        if not is_valid_name(name) and name != PROFILE_PATTERN:
            yield (
                f"buckets.{name}: not a bucket name: lower-case letters, digits, '_', '.' and '-', at most "
                f"63 of them, with one ':' between two such parts for a profile, or {PROFILE_PATTERN!r} for "
                f"profiles that are made; reserved are {', '.join(sorted(RESERVED_NAMES))}"
            )
    buckets = dict(_well_formed(tree))
    yield from _alias_problems(buckets)
    yield from _root_problems(buckets)


def _well_formed(tree: Mapping[str, Any]) -> Iterator[tuple[str, BucketSettings]]:
    for name, values in tree.items():
        try:
            yield name, BucketSettings.model_validate(values)
        except ValidationError:
            continue


def _alias_problems(buckets: Mapping[str, BucketSettings]) -> Iterator[str]:
    owners = dict.fromkeys(buckets, "the name of a bucket")
    for name in buckets:
        for alias in aliases(name, buckets):
            if not alias.isprintable() or alias != alias.strip():
                yield f"buckets.{name}.aliases: {alias!r} holds spaces at an end or control characters"
            if alias in owners:
                yield f"buckets.{name}.aliases: {alias!r} is already {owners[alias]}"
            owners[alias] = f"an alias of {name}"


def _root_problems(buckets: Mapping[str, BucketSettings]) -> Iterator[str]:
    owners: dict[Path, str] = {}
    for name, bucket in buckets.items():
        try:
            root = local_root(bucket.pattern.parent) if name == PROFILE_PATTERN else bucket.root
        except ValueError as error:
            yield f"buckets.{name}.uri: {error}"
            continue
        if root in owners:
            yield f"buckets.{name}.uri: the same folder as that of {owners[root]}"
        owners[root] = name
    parent = next((root for root, name in owners.items() if name == PROFILE_PATTERN), None)
    for root, name in owners.items():
        if parent is not None and root != parent and root.is_relative_to(parent):
            yield f"buckets.{name}.uri: lies where {PROFILE_PATTERN} makes buckets; give it another folder"
    if PROFILE_PATTERN in buckets and buckets[PROFILE_PATTERN].aliases:
        yield f"buckets.{PROFILE_PATTERN}.aliases: profiles that are made have none"
