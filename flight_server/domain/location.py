"""Where buckets lie: the folders that the URIs of the configuration name."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from flight_server.domain.bucket import BucketPattern

_NAME_FIELD = "{name}"


def local_root(uri: str) -> Path:
    """Return the folder that a URI names, absolute and without symbolic links. Raises ValueError."""
    parts = urlsplit(uri)
    if "://" not in uri:
        if not uri:
            raise ValueError("the uri is empty; name a local folder")
        return Path(uri).expanduser().resolve()
    if parts.scheme != "file":
        raise ValueError(
            f"{parts.scheme}:// is not served by this version; name a local folder or a file:// URI"
        )
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise ValueError("a file URI needs an absolute path: file:///folder")
    return Path(unquote(parts.path)).resolve()


def pattern(uri: str, *, read_only: bool, quota_bytes: int | None = None) -> BucketPattern:
    """Return what makes buckets of a URI in which `{name}` is a folder. Raises ValueError for others."""
    before, _, inside = uri.partition(f"/{_NAME_FIELD}")
    if uri.count(_NAME_FIELD) != 1 or not before or (inside and not inside.startswith("/")):
        raise ValueError(f"must hold {_NAME_FIELD} once, as a folder of its own, as in /data/{_NAME_FIELD}")
    return BucketPattern(local_root(before).as_uri(), inside.rstrip("/"), read_only, quota_bytes)
