"""The engine processes as the services see them: chosen by what a caller may reach, or a task needs."""

from typing import Any

from flight_server.dispatch.engine import Engine
from flight_server.dispatch.pool import TASK, EnginePool, Leases
from flight_server.domain.bucket import Bucket
from flight_server.domain.grants import GrantSet, GrantSets
from flight_server.domain.identity import Identity
from flight_server.domain.session import Holding
from flight_server.errors import StateLostError


class Dispatcher:
    """Finds the engine process for a request: of its caller's grant set, or of the buckets it touches."""

    def __init__(self, pool: EnginePool, grant_sets: GrantSets) -> None:
        self._pool = pool
        self._grant_sets = grant_sets

    async def start(self) -> None:
        """Start an engine process, so that it is known to start. Raises UnavailableError."""
        await self._pool.start(self._grant_sets.first)

    async def stop(self) -> None:
        """End the engine processes."""
        await self._pool.stop()

    def of(self, identity: Identity) -> Engine:
        """Return the engine of a caller: it reaches what the caller may, and nothing else."""
        return Engine(Leases(self._pool, self._grant_sets.of(identity), identity.name))

    def over(self, *buckets: Bucket | str) -> Engine:
        """Return the engine of a task: it reaches, and may write, exactly these buckets."""
        return self._with(self._grant_sets.over(*buckets))

    def _with(self, grants: GrantSet) -> Engine:
        return Engine(Leases(self._pool, grants, TASK))

    async def settle(self, session_id: str, commit: bool) -> tuple[Holding, ...]:
        """End a transaction in which a session changed temporary tables; return what it keeps now.

        Raises StateLostError when no engine process has anything of the session.
        """
        holdings: tuple[Holding, ...] | None = None
        for grants in self._pool.keeping(session_id):
            holdings = await self._with(grants).settle(session_id, commit)
        if holdings is None:
            raise StateLostError("the session's temporary state is gone: its engine process has ended")
        return holdings

    def is_keeping(self, session_id: str) -> bool:
        """Tell whether an engine process keeps state of a session, of whatever grant set."""
        return bool(self._pool.keeping(session_id))

    async def forget(self, session_id: str) -> None:
        """Drop what a session keeps, wherever that is."""
        for grants in self._pool.keeping(session_id):
            await self._with(grants).forget(session_id)

    async def deactivate(self, bucket: str) -> tuple[int, int]:
        """Let go of all that a bucket has in memory; return how many entries and bytes that was."""
        freed = [
            await self._with(grants).vectors.deactivate(bucket)
            for grants in self._pool.running()
            if bucket in grants
        ]
        return sum(entries for entries, _ in freed), sum(size for _, size in freed)

    async def activations(self) -> list[dict[str, Any]]:
        """Return what the engine processes have in memory, one row for each column in each of them."""
        return [
            row for grants in self._pool.running() for row in await self._with(grants).vectors.activations()
        ]
