"""Where the server may listen, and how safely; source: design, "who may do what"."""

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

_TRUE = ("true", "1", "yes", "on")


def listening_problems(tree: Mapping[str, Any]) -> Iterator[str]:
    """Yield why the server must not listen where these settings say."""
    host = tree.get("host")
    if str(tree.get("allow_insecure", False)).lower() in _TRUE or not isinstance(host, str):
        return
    lacking = list(_lacking(tree))
    if lacking and not _is_loopback(host):
        yield (
            f"host: {host!r} is not a loopback address, and {' and '.join(lacking)}; use 127.0.0.1, "
            "configure [tls] and [auth], or set allow_insecure = true"
        )


def _lacking(tree: Mapping[str, Any]) -> Iterator[str]:
    auth, tls = tree.get("auth") or {}, tree.get("tls") or {}
    if not (isinstance(auth, dict) and (auth.get("users_file") or auth.get("jwt"))):
        yield "without authentication everyone who reaches it may read and write everything"
    if not (isinstance(tls, dict) and tls.get("certificate")):
        yield "without TLS passwords and data can be read on their way"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
