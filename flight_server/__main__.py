"""Run the command line with `python -m flight_server`."""

from flight_server.cli import main

if __name__ == "__main__":
    main(prog_name="flight-server")
