"""Where the objects of one bucket lie, whatever the storage."""

import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import pyarrow as pa
import pyarrow.fs

from flight_server.domain import faults
from flight_server.domain.bucket import PROFILE_PATTERN, BucketPattern
from flight_server.domain.storage_failure import storage_failure
from flight_server.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
)

OBJECTS_FOLDER = "_objects"
"""All objects that the server writes into a bucket lie under this folder of its root."""

INDEXES_FOLDER = "vectors"
"""The indexes of a bucket lie under this folder of its root."""

Fill: TypeAlias = Callable[[pa.RecordBatch], pa.RecordBatch]
Filling: TypeAlias = Callable[[pa.Schema], Fill | None]
"""A dataset's columns → what computes of its rows, before they are written, those that it computes."""


def _nothing(_schema: pa.Schema) -> None:
    """Compute nothing."""


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object as a listing shows it; `age` is the seconds since it was written."""

    key: str
    bytes: int
    age: float


class ObjectStore:
    """The objects of one bucket; keys are relative to its root and cannot leave it.

    `filling` computes columns of rows that are written. `parent` is the URI of a folder in which the root
    is made when it is first written to; without one there must be a root. One that is not `writable` says
    so, before the system does.
    """

    def __init__(
        self,
        bucket: str,
        uri: str,
        filling: Filling | None = None,
        parent: str | None = None,
        *,
        writable: bool = True,
    ) -> None:
        self.bucket = bucket
        self._writable = writable
        self.filling: Filling = filling or _nothing
        self._files, root = pyarrow.fs.FileSystem.from_uri(uri)
        self._root = PurePosixPath(root)
        self._is_local = isinstance(self._files, pyarrow.fs.LocalFileSystem)
        self._anchor = pyarrow.fs.FileSystem.from_uri(parent)[1] if parent is not None else root
        self._durable_folders: set[Path] = set()

    @property
    def local_root(self) -> Path | None:
        """The root folder, when it is one of this machine."""
        return Path(self._root) if self._is_local else None

    def _check_writable(self) -> None:
        if not self._writable:
            raise PermissionDeniedError(f"bucket {self.bucket} may be read by you but not written")

    def new_key(self, dataset_id: str) -> str:
        """Return a key that nobody has used."""
        return f"{OBJECTS_FOLDER}/{dataset_id}/{uuid.uuid4()}.parquet"

    def is_managed(self, key: str) -> bool:
        """Tell whether a key is one that the server gave."""
        return key.startswith(f"{OBJECTS_FOLDER}/")

    def path(self, key: str) -> str:
        """Return the storage path of a key.

        Raises InvalidArgumentError for a key that is empty, absolute or leaves the root.
        """
        parts = PurePosixPath(key).parts
        if not parts or key.startswith("/") or ".." in parts or "\\" in key or "\0" in key:
            raise InvalidArgumentError(f"{key[:200]!r} is not a key inside bucket {self.bucket}")
        return str(self._root.joinpath(*parts))

    def exists(self, key: str) -> bool:
        """Tell whether there is an object under a key."""
        with storage_errors(self.bucket):
            faults.operate()
            return self._files.get_file_info(self.path(key)).type == pyarrow.fs.FileType.File

    def open(self, key: str) -> pa.NativeFile:
        """Open an object for reading; the caller closes it. Raises NotFoundError."""
        try:
            faults.operate()
            return self._files.open_input_file(self.path(key))
        except FileNotFoundError as error:
            raise NotFoundError(f"bucket {self.bucket} has no object {key!r}") from error
        except OSError as error:
            raise FailedPreconditionError(f"object {key!r} of bucket {self.bucket} cannot be read") from error

    def list(self, key: str) -> Iterator["ListedObject"]:
        """Yield the object of a key, or all objects below it when it is a folder, folder by folder.

        What a symbolic link leads to outside of the root is passed over.
        """
        with storage_errors(self.bucket):
            faults.operate()
            waiting = [self._files.get_file_info(self.path(key))]
        now = time.time()
        while waiting:
            info = waiting.pop()
            if info.type == pyarrow.fs.FileType.NotFound or not self._is_inside(info.path):
                continue
            if info.type == pyarrow.fs.FileType.File:
                own = str(PurePosixPath(info.path).relative_to(self._root))
                yield ListedObject(own, info.size, now - (info.mtime_ns or 0) / 1e9)
                continue
            with storage_errors(self.bucket):
                faults.operate()
                found = self._files.get_file_info(pyarrow.fs.FileSelector(info.path))
            waiting += sorted(found, key=lambda item: item.path, reverse=True)

    def _is_inside(self, path: str) -> bool:
        return not self._is_local or Path(path).resolve().is_relative_to(Path(self._root).resolve())

    def create(self, key: str) -> "ObjectWriter":
        """Open a new object for writing; nothing of it counts before it is closed."""
        self._check_writable()
        path = self.path(key)
        folder = Path(path).parent
        with storage_errors(self.bucket):
            faults.operate()
            if not self._is_local or not folder.is_dir():
                self._durable_folders.discard(folder)
                if self._is_local:
                    os.stat(self._anchor)  # made at the start: where it is gone, so are the other objects
                self._files.create_dir(str(folder), recursive=True)
            faults.operate()
            return ObjectWriter(self, key, self._files.open_output_stream(path, buffer_size=1 << 20))

    def make_durable(self, key: str) -> None:
        """Force an object and its folder entries to disk; object stores do that on close.

        The entry of a folder is forced once, before its first object counts.
        """
        if not self._is_local:
            return
        path = Path(self.path(key))
        folder = path.parent
        _force(path)
        _force(folder)
        if folder not in self._durable_folders:
            _force(folder.parent)
            _force(folder.parent.parent)
            self._durable_folders.add(folder)

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        self._check_writable()
        with storage_errors(self.bucket), suppress(FileNotFoundError):
            faults.operate()
            self._files.delete_file(self.path(key))
        faults.reach(faults.Place.OBJECT_DELETED)

    def clear(self) -> None:
        """Remove the indexes of the bucket, and the folders of the server that nothing is left in."""
        self._check_writable()
        with storage_errors(self.bucket), suppress(FileNotFoundError):
            faults.operate()
            self._files.delete_dir(self.path(INDEXES_FOLDER))
        if not self._is_local:
            return
        objects = Path(self.path(OBJECTS_FOLDER))
        for folder in (*sorted(objects.glob("*")), objects, Path(self._root)):
            with suppress(OSError):  # somebody else's things are in it, or it was never made
                folder.rmdir()


def _force(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        faults.operate()
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def storage_errors(bucket: str) -> Iterator[None]:
    """Turn errors of the storage into ours, without the path that they carry."""
    try:
        yield
    except OSError as error:
        raise storage_failure(bucket, error.errno) from error


class Stores(Mapping[str, ObjectStore]):
    """The objects of all buckets by name; those that a pattern makes are opened when they are asked for.

    `buckets` tells the root's URI of each, and whether it may be written.
    Safe for threads: at worst one is opened twice.
    """

    def __init__(
        self,
        buckets: Mapping[str, tuple[str, bool]],
        pattern: BucketPattern | None,
        filling: Filling | None = None,
    ) -> None:
        self._stores = {
            name: ObjectStore(name, uri, filling, writable=may_write)
            for name, (uri, may_write) in buckets.items()
        }
        self._pattern = pattern
        self._filling = filling

    def __getitem__(self, bucket: str) -> ObjectStore:
        """Return the objects of a bucket. Raises KeyError for one that there cannot be."""
        found = self._stores.get(bucket)
        if found is None:
            uri = self._pattern.uri(bucket) if self._pattern is not None else None
            if self._pattern is None or uri is None:
                raise KeyError(bucket)
            found = ObjectStore(
                bucket,
                uri,
                self._filling,
                self._pattern.parent,
                writable=not self._pattern.read_only,
            )
            self._stores[bucket] = found
        return found

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of those that are open."""
        return iter(list(self._stores))

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._stores)

    def local_roots(self) -> list[Path]:
        """Return the local folders in which all that there is or will be lies."""
        roots = [root for store in self._stores.values() if (root := store.local_root) is not None]
        if self._pattern is not None:
            parent = ObjectStore(PROFILE_PATTERN, self._pattern.parent).local_root
            roots += [parent] if parent is not None else []
        return roots


class ObjectWriter:
    """A file-like object that writes one object and hashes what it writes."""

    closed = False

    def __init__(self, store: ObjectStore, key: str, stream: pa.NativeFile) -> None:
        self.key = key
        self.bytes = 0
        self._store = store
        self._stream = stream
        self._digest = hashlib.sha256()

    @property
    def checksum(self) -> str:
        """The checksum of what was written, `sha256:<hex>`."""
        return f"sha256:{self._digest.hexdigest()}"

    def writable(self) -> bool:
        """Tell pyarrow that this is a sink."""
        return True

    def write(self, data: bytes | memoryview) -> int:
        """Write and hash bytes."""
        with storage_errors(self._store.bucket):
            faults.reach(faults.FULL_DISK)
            faults.operate()
            self._stream.write(data)
        self._digest.update(data)
        self.bytes += len(data)
        return len(data)

    def flush(self) -> None:
        """Leave flushing to `close`."""

    def close(self) -> None:
        """Close the object and make it durable."""
        if self.closed:
            return
        self.closed = True
        faults.reach(faults.Place.OBJECT_WRITTEN)
        with storage_errors(self._store.bucket):
            faults.operate()
            self._stream.close()
            self._store.make_durable(self.key)
        faults.reach(faults.Place.OBJECT_CLOSED)

    def discard(self) -> None:
        """Close the object and remove it."""
        if not self.closed:
            self.closed = True
            with suppress(OSError):  # whatever closing says, the object goes
                self._stream.close()
        self._store.delete(self.key)
