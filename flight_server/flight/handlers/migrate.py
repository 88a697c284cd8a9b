"""The action `migrate`: catalogs of before buckets existed into canonical form."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flight_server.domain.call import CallContext
from flight_server.errors import InvalidArgumentError
from flight_server.flight.wire.actions import check_keys, decode_json, encode_json

if TYPE_CHECKING:
    from flight_server.services.migration import MigrationService


@dataclass(frozen=True, slots=True)
class MigrateHandlers:
    """Answers the action `migrate`."""

    migration: "MigrationService"

    async def migrate(self, call: CallContext, body: bytes) -> Sequence[bytes]:
        """Migrate, or with `dry_run` only report."""
        options = decode_json(body)
        check_keys("migrate", options, ("dry_run",))
        dry_run = options.get("dry_run", False)
        if not isinstance(dry_run, bool):
            raise InvalidArgumentError("'dry_run' must be true or false")
        return (encode_json(await self.migration.migrate(call, dry_run)),)
