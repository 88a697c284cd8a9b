"""Brings catalogs that were written before buckets existed into canonical form."""

from flight_server.catalog.store import Catalog
from flight_server.domain.bucket import BucketRegistry
from flight_server.domain.call import CallContext
from flight_server.errors import PermissionDeniedError
from flight_server.services.commits import Committer


class MigrationService:
    """Runs the catalog's migration beside the server's other work."""

    def __init__(self, catalog: Catalog, registry: BucketRegistry, committer: Committer) -> None:
        self._catalog = catalog
        self._registry = registry
        self._committer = committer

    async def migrate(self, call: CallContext, dry_run: bool) -> dict[str, object]:
        """Rewrite every alias and legacy URL in the catalog; return the report with its counts."""
        if not all(call.identity.may("admin", bucket.name) for bucket in self._registry):
            raise PermissionDeniedError("migrate rewrites the whole catalog: it needs admin on every bucket")
        return await self._committer.run(lambda: self._catalog.migrate(self._registry, dry_run))
