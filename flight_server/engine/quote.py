"""Quotes identifiers and strings for DuckDB; no SQL text is put together without it."""

from collections.abc import Iterable


def identifier(name: str) -> str:
    """Quote one identifier."""
    return '"' + name.replace('"', '""') + '"'


def path(parts: Iterable[str]) -> str:
    """Quote a qualified name."""
    return ".".join(identifier(part) for part in parts)


def text(value: str) -> str:
    """Quote a string literal."""
    return "'" + value.replace("'", "''") + "'"
