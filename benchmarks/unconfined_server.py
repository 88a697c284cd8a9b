"""Our own server with nothing taken away from its engine processes: what confining them costs is measured."""

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path

from flight_server import app, config


def main(data_dir: str) -> None:
    """Serve a data directory, that of another server too, until standard input ends; print the URI."""
    overrides = {"port": 0, "data_dir": Path(data_dir), "engine": {"spares": 0}}
    settings = config.load(None, {**overrides, "telemetry": {"log_level": "warning"}})
    asyncio.run(app.serve(settings, _ready, confines=False))


def _ready(uri: str) -> None:
    print(uri, flush=True)
    threading.Thread(target=_await_end, daemon=True).start()


def _await_end() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(sys.argv[1])
