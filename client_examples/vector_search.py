"""Search a profile by vectors, and join what is found with a table of another bucket.

python vector_search.py grpc://127.0.0.1:31337
"""

import json
import sys

import pyarrow as pa
import pyarrow.flight as flight
from adbc_driver_flightsql.dbapi import connect

PROFILE = {"adbc.flight.sql.rpc.call_header.x-lakehouse-profile": "user"}
VECTORS = pa.FixedSizeListArray.from_arrays(pa.array([0.9, 0.1, 0.0, 1.0, 0.7, 0.7], pa.float32()), 2)


def main(uri: str) -> None:
    """Put three vectors into the profile `user`, load it, and find the two nearest to a bound one."""
    colours = pa.table({"colour": ["red", "blue", "violet"], "vector": VECTORS})
    prices = pa.table({"colour": ["red", "blue", "violet"], "price": [3, 5, 8]})
    with connect(uri, PROFILE, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("colours", colours, mode="replace", db_schema_name="profile:user")
        cursor.adbc_ingest("prices", prices, mode="replace", db_schema_name="testing")
        with flight.connect(uri) as client:
            body = json.dumps({"profile": "user"}).encode()
            *_, summary = client.do_action(flight.Action("activate_profile", body))
            print(summary.body.to_pybytes().decode())
        cursor.execute(
            "SELECT colour, price, _distance FROM vector_search('colours', ?, k => 2) "
            "JOIN testing.prices USING (colour) ORDER BY _distance",
            [[1.0, 0.0]],
        )
        for colour, price, distance in cursor.fetchall():
            print(f"{colour}: {price}, {distance:.3f} away")


if __name__ == "__main__":
    main(sys.argv[1])
