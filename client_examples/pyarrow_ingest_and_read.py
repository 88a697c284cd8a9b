"""Write and read a dataset with nothing but `pyarrow.flight`; the bucket is a call header.

python pyarrow_ingest_and_read.py grpc://127.0.0.1:31337
"""

import json
import sys

import pyarrow as pa
import pyarrow.flight as flight


def main(uri: str) -> None:
    """Replace the dataset `cities` of the bucket `testing`, then read it back by its path."""
    cities = pa.table({"name": ["Delft", "Kyoto"], "founded": [1246, 794]})
    headers = [(b"x-lakehouse-bucket", b"testing"), (b"x-lakehouse-mode", b"replace")]
    with flight.connect(uri) as client:
        writer, results = client.do_put(
            flight.FlightDescriptor.for_path("cities"),
            cities.schema,
            flight.FlightCallOptions(headers=headers),
        )
        writer.write_table(cities)
        writer.done_writing()
        stored = json.loads(results.read().to_pybytes())
        writer.close()
        print(f"{stored['rows']} rows in {stored['bucket']}.{stored['dataset']}, version {stored['version']}")

        info = client.get_flight_info(flight.FlightDescriptor.for_path("testing", "cities"))
        print(client.do_get(info.endpoints[0].ticket).read_all().to_pylist())


if __name__ == "__main__":
    main(sys.argv[1])
