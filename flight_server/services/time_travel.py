"""Time travel: which version of a dataset a name or an AT clause means."""

import re
from datetime import UTC, datetime, timedelta

from flight_server.catalog.store import Catalog
from flight_server.domain.dataset import Dataset, VersionRange, display_name
from flight_server.errors import InvalidArgumentError, NotFoundError
from flight_server.frames.requests import TableName

_VERSIONED = re.compile(r"(?P<table>.+)@(?P<version>\d{1,18})", re.DOTALL)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def unversioned(name: TableName) -> TableName:
    """Turn a last part such as `people@3` into `people` and version 3.

    Raises InvalidArgumentError when an AT clause says something else on top of it.
    """
    found = _VERSIONED.fullmatch(name.path[-1])
    if found is None:
        return name
    if name.version is not None or name.at is not None:
        raise InvalidArgumentError(
            f"{name.path[-1]!r} names a version already: leave out the AT clause, or '@' and the number"
        )
    return TableName((*name.path[:-1], found["table"]), int(found["version"]))


def travel(catalog: Catalog, dataset: Dataset, name: TableName, commit: int) -> Dataset:
    """Return a dataset as it was at the version or moment that a name says.

    Raises NotFoundError, with the versions there are.
    """
    past = catalog.find_version(dataset.id, commit, name.version, name.at)
    if past is not None:
        return past
    shown = display_name(dataset.namespace, dataset.name)
    wanted = f"no version {name.version}" if name.version is not None else f"no version at {_moment(name.at)}"
    raise NotFoundError(f"{shown} has {wanted}; {_known(catalog.version_range(dataset.id, commit))}")


def _known(versions: VersionRange | None) -> str:
    if versions is None:
        return "nothing of it is committed yet"
    oldest = f"{versions.oldest} (committed at {versions.oldest_at:%Y-%m-%d %H:%M:%S.%f} UTC)"
    if versions.oldest == versions.newest:
        return f"there is only version {oldest}"
    newest = f"{versions.newest} (at {versions.newest_at:%Y-%m-%d %H:%M:%S.%f} UTC)"
    return f"there are versions {oldest} to {newest}"


def _moment(microseconds: int | None) -> str:
    try:
        return f"{_EPOCH + timedelta(microseconds=microseconds or 0):%Y-%m-%d %H:%M:%S.%f} UTC"
    except OverflowError:
        return "that time"
