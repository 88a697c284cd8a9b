"""A process of clients that query as fast as they can, when they are told to.

Arguments: URI, form of the descriptor (`statement` or `plain`), SQL, number of clients. Each
line of standard input is a number of seconds; the answer is the number of queries done in them.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pyarrow.flight as fl

from benchmarks import clients

_FORMS = {"statement": clients.statement, "plain": clients.plain}


def _query(descriptor: fl.FlightDescriptor, until: float, client: fl.FlightClient) -> int:
    done = 0
    while time.monotonic() < until:
        clients.fetch(client, descriptor)
        done += 1
    return done


def main(uri: str, form: str, sql: str, count: str) -> None:
    """Connect the clients, then run a round for each line of standard input."""
    descriptor = _FORMS[form](sql)
    opened = [fl.connect(uri) for _ in range(int(count))]
    with ThreadPoolExecutor(len(opened)) as pool:
        print("ready", flush=True)
        for line in sys.stdin:
            rounds = partial(_query, descriptor, time.monotonic() + float(line))
            print(sum(pool.map(rounds, opened)), flush=True)
    for client in opened:
        client.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
