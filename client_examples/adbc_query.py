"""Query datasets of several buckets through ADBC, as if they were one database.

python adbc_query.py grpc://127.0.0.1:31337
"""

import sys

import pyarrow as pa
from adbc_driver_flightsql.dbapi import connect


def main(uri: str) -> None:
    """Put a small table into two buckets and join them."""
    people = pa.table({"id": [1, 2, 3], "name": ["Ada", "Grace", "Edsger"]})
    notes = pa.table({"person": [1, 3], "note": ["wrote the first program", "disliked goto"]})
    with connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("people", people, mode="replace")
        cursor.adbc_ingest("people_notes", notes, mode="replace", db_schema_name="testing")
        cursor.execute(
            'SELECT name, note FROM "primary".people '
            "JOIN testing.people_notes ON person = id WHERE id >= ? ORDER BY name",
            [1],
        )
        for name, note in cursor.fetchall():
            print(f"{name}: {note}")


if __name__ == "__main__":
    main(sys.argv[1])
