"""Rooms: how many bytes more may be written to a bucket that has a quota."""

from flight_server.services.resolution import Names
from flight_server.services.transactions import TransactionService


def room_left(names: Names, transactions: TransactionService, bucket: str) -> int | None:
    """Return how many bytes more a bucket may get, None for any number.

    What open transactions will commit takes room too; what is being written at the same time does not.
    """
    room = names.catalog.quotas.room(bucket)
    return None if room is None else max(0, room - transactions.staged_bytes(bucket))
