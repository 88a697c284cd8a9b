"""One engine process: started, configured, connected to, ended."""

import asyncio
import contextlib
import fcntl
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from flight_server.dispatch import confinement
from flight_server.dispatch.channel import Channel, EngineLostError
from flight_server.dispatch.confinement import Confinement
from flight_server.domain.execution import MAX_CONNECTIONS
from flight_server.domain.grants import GrantSet
from flight_server.errors import ResourceExhaustedError, UnavailableError
from flight_server.frames.frame import Frame

_DIRECTORY_PREFIX = "flight-engine-"
_LOCK = "lock"
_LAUNCHER = Path(__file__).with_name("launcher.py")
_BACKLOG = 1024
_MAX_IDLE = 64
_START_SECONDS = 60.0
_END_SECONDS = 5.0
_ANSWER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ProcessOptions:
    """What an engine process is configured with: the buckets that it reaches, bytes, threads.

    `vector_bytes` are what vectors in memory may take; with `has_vectors` they are searched right away.
    `embedders` are their settings by name, with keys; made by a factory they may read the folders `reads`.
    `niceness` is how much it steps back for other processes, up to 19. `user` is who it runs as, the
    gateway's user when it is None. `confines` is off only where the cost of it is measured. `statement_bytes`
    are what the groups of one statement may have in memory, None for any number.
    """

    grants: GrantSet
    memory_bytes: int
    temp_bytes: int
    threads: int
    vector_bytes: int = 0
    has_vectors: bool = False
    niceness: int = 0
    embedders: Mapping[str, Mapping[str, object]] = field(default_factory=dict, repr=False)
    reads: tuple[str, ...] = ()
    user: str | None = None
    confines: bool = True
    statement_bytes: int | None = None

    @property
    def has_factories(self) -> bool:
        """Whether an embedder is made by a factory, which may be anybody's module."""
        return any(embedder.get("factory") for embedder in self.embedders.values())

    def confinement(self) -> Confinement:
        """Return what the process is left with. Raises UnavailableError for a bucket that is not there."""
        user = confinement.user_ids(self.user)
        reads, writes = confinement.roots(self.grants, user)
        factories = confinement.factory_folders(self.reads) if self.has_factories else ()
        return Confinement(
            reads=(*reads, *factories),
            writes=writes,
            memory_bytes=self.memory_bytes + self.vector_bytes,
            file_bytes=self.temp_bytes,
            connects=bool(self.embedders),
            user=user,
            niceness=self.niceness,
            confines=self.confines,
        )

    def frame(self) -> Frame:
        """Return the frame that configures the process."""
        return Frame(
            "configure",
            {
                "buckets": {bucket.name: [bucket.uri, bucket.may_write] for bucket in self.grants.buckets},
                "pattern": None if self.grants.pattern is None else asdict(self.grants.pattern),
                "memory_bytes": self.memory_bytes,
                "statement_bytes": self.statement_bytes,
                "temp_bytes": self.temp_bytes,
                "threads": self.threads,
                "vector_bytes": self.vector_bytes,
                "has_vectors": self.has_vectors,
                "embedders": dict(self.embedders),
            },
        )


class EngineProcess:
    """A running engine process and the idle connections to it; used from the event loop only.

    `sessions` are the ids of those whose state it keeps.
    """

    def __init__(self, options: ProcessOptions) -> None:
        self._options = options
        self._directory = Path()
        self._lock = -1
        self._process: asyncio.subprocess.Process | None = None
        self._control: Channel | None = None
        self._idle: list[Channel] = []
        self._leased = 0
        self._is_lost = False
        self.sessions: set[str] = set()

    async def start(self) -> None:
        """Start the process and wait until its instance is locked. Raises UnavailableError."""
        remove_abandoned()
        confined = self._options.confinement()
        self._make_directory(confined.user)
        with self._listener(confined.user) as listener:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(_LAUNCHER),
                str(listener.fileno()),
                str(self._directory),
                pass_fds=(listener.fileno(),),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": self._python_path()},
            )
        await self._tell(confined)
        self._control = await Channel.open(self._socket)
        await self._control.send(self._options.frame())
        try:
            async with asyncio.timeout(_START_SECONDS):
                await self._control.receive()
        except TimeoutError as error:
            raise UnavailableError(
                f"the engine process was not ready within {_START_SECONDS:.0f} s"
            ) from error

    def _make_directory(self, user: tuple[int, int] | None) -> None:
        """Make the directory that is the process's own, with a lock that tells that its server lives."""
        self._directory = Path(tempfile.mkdtemp(prefix=_DIRECTORY_PREFIX))
        unlocked = self._directory / f"{_LOCK}.new"
        self._lock = os.open(unlocked, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        unlocked.rename(self._directory / _LOCK)  # nobody ever finds it without its lock
        if user is not None:
            os.chown(self._directory, *user)

    def _python_path(self) -> str:
        return confinement.python_path(self._directory, has_factories=self._options.has_factories)

    @contextlib.contextmanager
    def _listener(self, user: tuple[int, int] | None) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self._socket))
            listener.listen(_BACKLOG)
            if user is not None:
                os.chown(self._socket, *user)
            yield listener

    async def _tell(self, confined: Confinement) -> None:
        assert self._process is not None  # noqa: S101 - it was just started
        assert self._process.stdin is not None  # noqa: S101 - it has a pipe
        with contextlib.suppress(ConnectionError):  # one that ended at once is found out below
            self._process.stdin.write(confined.encoded())
            await self._process.stdin.drain()
        self._process.stdin.close()

    @property
    def is_running(self) -> bool:
        """Whether the process can take requests."""
        return not self._is_lost and self._process is not None and self._process.returncode is None

    async def answers(self) -> bool:
        """Tell whether the process still answers; one that was killed runs on a little without."""
        if not self.is_running or self._control is None:
            return False
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._control.send(Frame("ping"))
                await self._control.receive()
        except (EngineLostError, TimeoutError):
            self._is_lost = True
        return not self._is_lost

    def kill(self) -> None:
        """End the process at once, with everything that it works on."""
        self._is_lost = True
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    @property
    def _socket(self) -> Path:
        return self._directory / "socket"

    async def stop(self) -> None:
        """End the process: closing the control connection tells it, else it is killed."""
        for channel in self._idle:
            channel.close()
        self._idle.clear()
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            try:
                async with asyncio.timeout(_END_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                self.kill()
                await self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Channel]:
        """Lease a connection for one request; one left in the middle is closed, which cancels.

        Raises ResourceExhaustedError when the process works on as many requests as it can.
        """
        if self._leased >= MAX_CONNECTIONS:
            raise ResourceExhaustedError(
                f"an engine process works on {MAX_CONNECTIONS} requests, as many as it can: try again in 1 s"
            )
        self._leased += 1
        try:
            channel = self._idle.pop() if self._idle else await Channel.open(self._socket)
            try:
                yield channel
            finally:
                if channel.is_reusable and len(self._idle) < _MAX_IDLE:
                    self._idle.append(channel)
                elif not channel.is_detached:
                    channel.close()
        except EngineLostError:
            self._is_lost = True
            raise
        finally:
            self._leased -= 1


def remove_abandoned() -> None:
    """Remove the directories of servers that ended without doing so; a lock shows who is alive."""
    for directory in Path(tempfile.gettempdir()).glob(f"{_DIRECTORY_PREFIX}*"):
        with contextlib.suppress(OSError):
            descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                if os.fstat(descriptor).st_uid != os.getuid():
                    continue
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)
            finally:
                os.close(descriptor)
