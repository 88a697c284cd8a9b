"""What the catalog needs to know about SQLite; nothing else in this package assumes it.

Readers never wait for a writer (write-ahead log); a transaction that writes takes the one write lock
when it begins, so that what it read cannot move before it commits.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Lock

from sqlalchemy import URL, ColumnElement, Connection, Engine, create_engine, event, func, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from flight_server.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    LakehouseError,
    ResourceExhaustedError,
    UnavailableError,
)

BUSY_SECONDS = 60
"""How long a transaction waits for another one's write lock; the longest is an import of many objects."""

WRITES = "catalog_writes"
"""Execution option of an engine whose transactions write."""

_KEPT_LOG_BYTES = 64 * 1024 * 1024

_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    f"PRAGMA journal_size_limit = {_KEPT_LOG_BYTES}",
)

_FAILURES: dict[int, tuple[type[LakehouseError], str]] = {
    sqlite3.SQLITE_BUSY: (UnavailableError, "the catalog is busy with another writer; try again"),
    sqlite3.SQLITE_LOCKED: (UnavailableError, "the catalog is busy with another writer; try again"),
    sqlite3.SQLITE_IOERR: (UnavailableError, "the disk of the catalog failed; try again"),
    sqlite3.SQLITE_FULL: (ResourceExhaustedError, "the disk of the catalog is full; nothing was changed"),
    sqlite3.SQLITE_READONLY: (FailedPreconditionError, "the catalog's file is read-only; make it writable"),
    sqlite3.SQLITE_CANTOPEN: (
        FailedPreconditionError,
        "the catalog cannot be opened; its folder and file must be writable",
    ),
    sqlite3.SQLITE_NOTADB: (FailedPreconditionError, "the catalog's file is not a SQLite database"),
    sqlite3.SQLITE_CORRUPT: (FailedPreconditionError, "the catalog's file is damaged; restore a backup"),
}
"""SQLite's primary result code → the error that says so; every other code is a bug of ours."""


def parse_url(url: str) -> URL:
    """Return a database URL as its parts. Raises InvalidArgumentError when it names none that is served."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InvalidArgumentError("the catalog's URL is not a database URL such as sqlite:///…") from error
    if parsed.drivername != "sqlite":
        raise InvalidArgumentError(
            f"no catalog is served from {parsed.drivername!r}; use sqlite:///<path of the file>"
        )
    return parsed


def database_exists(url: URL) -> bool:
    """Tell whether the file that `url` names is there."""
    return bool(url.database) and Path(str(url.database)).is_file()


def open_engine(url: URL) -> Engine:
    """Return an engine for the file that `url` names, creating its folder and the file when new.

    The file is readable by its owner only, since it holds the keys that sign tickets.
    Raises InvalidArgumentError when the URL names no file, FailedPreconditionError when it cannot be made.
    """
    database = url.database or ""
    if not database or database.startswith((":", "file:")):
        raise InvalidArgumentError("a SQLite catalog lives in a file: use sqlite:///<path of the file>")
    try:
        Path(database).parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(database, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise FailedPreconditionError(f"the catalog's file cannot be opened: {error.strerror}") from error
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def copy_database(source: Path, target: Path) -> None:
    """Write a database as it is at one moment to a new file, whole or not at all, beside its writers too.

    The copy is one file, readable by its owner only, without the keys that sign tickets.
    """
    partial = target.with_name(f"{target.name}.partial")
    partial.unlink(missing_ok=True)
    os.close(os.open(partial, os.O_CREAT | os.O_RDWR, 0o600))
    with closing(_connect(source)) as reader, closing(_connect(partial)) as copy:
        reader.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE").close()
        copy.execute("PRAGMA secure_delete = ON").close()
        with suppress(sqlite3.OperationalError):  # what is no catalog is found out by who opens the copy
            copy.execute("DELETE FROM secret_keys").close()
    os.rename(partial, target)
    _force(target.parent)


@contextmanager
def read_copy(file: Path) -> Iterator[Connection]:
    """Open a copy for reading, and leave it as it is."""
    uri = f"{file.absolute().as_uri()}?mode=ro"
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(uri, uri=True), poolclass=NullPool)
    with engine.connect() as connection:
        yield connection


@contextmanager
def copy_beside(url: URL, source: Path) -> Iterator[Path]:
    """Copy a database to the folder of another one; the copy is removed at the end of the block."""
    target = Path(str(url.database))
    target.parent.mkdir(parents=True, exist_ok=True)
    copy = target.with_name(f"{target.name}.restoring")
    try:
        copy_database(source, copy)
        yield copy
    finally:
        for suffix in ("", "-wal", "-shm", ".partial"):
            copy.with_name(copy.name + suffix).unlink(missing_ok=True)


def replace_database(source: URL, target: URL) -> None:
    """Make a database hold what another one does, in one transaction.

    Raises FailedPreconditionError when any process has the database open.
    """
    file = str(target.database)
    os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
    with closing(_connect(str(source.database))) as copy, closing(_connect(file, seconds=0)) as replaced:
        try:
            # Only who has a database for himself can leave the write-ahead log.
            replaced.execute("PRAGMA locking_mode = EXCLUSIVE").close()
            replaced.execute("PRAGMA journal_mode = DELETE").close()
            replaced.execute("BEGIN EXCLUSIVE").close()
            replaced.execute("COMMIT").close()
        except sqlite3.OperationalError as error:
            raise FailedPreconditionError(
                "a server or a command uses the catalog: stop it, then restore again"
            ) from error
        copy.backup(replaced)


def _connect(file: Path | str, seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    return sqlite3.connect(file, timeout=seconds, isolation_level=None)


def _force(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _prepare(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    # The driver's own transactions begin at the first write, which is too late; `_begin` does it.
    connection.isolation_level = None
    for pragma in _PRAGMAS:
        connection.execute(pragma).close()


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def translated() -> Iterator[None]:
    """Raise the failures of SQLite inside the block as errors written for the client."""
    try:
        yield
    except DBAPIError as error:
        if (known := _described(error.orig)) is None:
            raise
        raise known from error
    except sqlite3.Error as error:
        if (known := _described(error)) is None:
            raise
        raise known from error


def _described(error: BaseException | None) -> LakehouseError | None:
    # The low byte is the primary code; the others tell variants of it apart.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code not in _FAILURES:
        return None
    kind, message = _FAILURES[code]
    return kind(message)


class CommitWatch:
    """Tells the newest commit at the price of one pragma while nothing changes.

    `PRAGMA data_version` moves when any other connection, of this process or another, has committed.
    The watch therefore has a connection that never writes. It is shared by all threads under a lock
    (3 µs): a read transaction that one thread had open would hide a commit from the next.
    """

    def __init__(self, url: URL) -> None:
        self._connection = sqlite3.connect(
            url.database or "", timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        self._lock = Lock()
        self._seen = -1
        self._newest = 0

    def newest(self) -> int:
        """Return the id of the newest commit, 0 when there is none."""
        with self._lock:
            version = self._read("PRAGMA data_version")
            if version != self._seen:
                # Read after the version: at worst the same commit is read once more.
                self._newest = self._read("SELECT coalesce(max(id), 0) FROM commits")
                self._seen = version
            return self._newest

    def _read(self, sql: str) -> int:
        row: tuple[int] = self._connection.execute(sql).fetchone()
        return row[0]

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def position(text: ColumnElement[str], part: str) -> ColumnElement[int]:
    """Return an expression for where `part` first stands in `text`, counted from 1, 0 when nowhere."""
    return func.instr(text, part)
