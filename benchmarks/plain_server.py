"""What one writes without us: a `pyarrow.flight` server that runs bare SQL in DuckDB.

Its one argument is JSON, `bucket.dataset` → Parquet files. The process ends when its standard
input does.
"""

import json
import sys
import threading

import pyarrow.flight as fl

from benchmarks.datasets import BATCH_ROWS
from benchmarks.plain_duckdb import Views, connect


class PlainServer(fl.FlightServerBase):
    """Answers GetFlightInfo and DoGet; every call uses a cursor of its own."""

    def __init__(self, views: Views) -> None:
        super().__init__("grpc://127.0.0.1:0")
        self._connection = connect(views)

    def get_flight_info(
        self, context: fl.ServerCallContext, descriptor: fl.FlightDescriptor
    ) -> fl.FlightInfo:
        """Bind a query for its schema; its text is the ticket."""
        command = descriptor.command or b""
        with self._connection.cursor() as cursor:
            schema = cursor.sql(command.decode()).limit(0).to_arrow_table().schema
        endpoint = fl.FlightEndpoint(fl.Ticket(command), [])
        return fl.FlightInfo(schema, descriptor, [endpoint])

    def do_get(self, context: fl.ServerCallContext, ticket: fl.Ticket) -> fl.RecordBatchStream:
        """Run a query and stream its rows."""
        cursor = self._connection.cursor()
        reader = cursor.sql(ticket.ticket.decode()).to_arrow_reader(BATCH_ROWS)
        return fl.RecordBatchStream(reader)

    def close(self) -> None:
        """Close DuckDB."""
        self._connection.close()


def main(views: str) -> None:
    """Serve on a free port of loopback, which is printed, to the end of standard input."""
    with PlainServer(json.loads(views)) as server:
        print(f"grpc://127.0.0.1:{server.port}", flush=True)
        threading.Thread(target=server.serve, daemon=True).start()
        sys.stdin.read()
        server.shutdown()
        server.close()


if __name__ == "__main__":
    main(sys.argv[1])
