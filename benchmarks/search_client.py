"""A process of ADBC clients that search as fast as they can, one search at a time, when they are told to.

Arguments: URI, SQL with a vector as its parameter, a file of vectors (`numpy.save`), number of clients. Each
line of standard input is a number of seconds; the answer is the number of searches done in them.
"""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
from adbc_driver_flightsql import dbapi

from benchmarks.searching import adbc_search


def _search(until: float, once: Callable[[], object]) -> int:
    done = 0
    while time.monotonic() < until:
        once()
        done += 1
    return done


def main(uri: str, sql: str, file: str, count: str) -> None:
    """Connect the clients, then run a round for each line of standard input."""
    vectors = np.load(file)
    with ExitStack() as stack:
        searches = []
        for number in range(int(count)):
            connection = stack.enter_context(dbapi.connect(uri, autocommit=True))
            cursor = stack.enter_context(connection.cursor())
            searches.append(adbc_search(cursor, sql, np.roll(vectors, number, axis=0)))
        pool = stack.enter_context(ThreadPoolExecutor(len(searches)))
        print("ready", flush=True)
        for line in sys.stdin:
            until = time.monotonic() + float(line)
            print(sum(pool.map(_search, [until] * len(searches), searches)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
