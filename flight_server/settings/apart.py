"""What must lie apart where callers do not trust each other: buckets, and what the server keeps to itself."""

from collections.abc import Iterator, Mapping
from pathlib import Path


def apart_problems(roots: Mapping[str, Path], secrets: Mapping[str, Path]) -> Iterator[str]:
    """Yield which buckets lie in others, and which files of the server lie in a bucket.

    Whoever may read a bucket could read those too, where only the system keeps them apart.
    """
    for name, root in roots.items():
        for other, around in roots.items():
            if other != name and root.is_relative_to(around):
                yield f"buckets.{name}.uri: lies in {other}; with [auth] each needs a folder of its own"
    for setting, file in secrets.items():
        for name, root in roots.items():
            if file.resolve().is_relative_to(root):
                yield f"{setting}: lies in bucket {name}, whose readers must not read it; move one of them"
