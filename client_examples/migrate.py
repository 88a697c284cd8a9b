"""Bring a catalog written before buckets existed into canonical form: look first, then do it.

python migrate.py grpc://127.0.0.1:31337
"""

import json
import sys

import pyarrow.flight as flight


def migrate(client: flight.FlightClient, dry_run: bool) -> dict[str, object]:
    """Run the action `migrate`; its body and its answer are JSON."""
    action = flight.Action("migrate", json.dumps({"dry_run": dry_run}).encode())
    (result,) = client.do_action(action)
    report: dict[str, object] = json.loads(result.body.to_pybytes())
    return report


def main(uri: str) -> None:
    """Print what a migration would change, then what it did change."""
    with flight.connect(uri) as client:
        for dry_run in (True, False):
            report = migrate(client, dry_run)
            print(f"dry run: {dry_run}, renamed: {report['renamed']}, unknown: {report['unknown']}")


if __name__ == "__main__":
    main(sys.argv[1])
