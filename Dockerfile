# The same commands as in the README; the data live in the volume /data.
FROM python:3.11-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --home-dir /app flight \
    && install -d -o flight -g flight /data

WORKDIR /app
USER flight
COPY --chown=flight:flight . .
RUN make .venv/.ready

# Inside a container loopback reaches nobody, so it listens on all addresses, which without
# authentication has to be said explicitly: publish the port on loopback only.
ENV FLIGHT_SERVER__HOST=0.0.0.0 \
    FLIGHT_SERVER__ALLOW_INSECURE=true \
    FLIGHT_SERVER__DATA_DIR=/data

VOLUME /data
EXPOSE 31337
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD \
    [".venv/bin/python", "-c", "import pyarrow.flight as f; list(f.connect('grpc://127.0.0.1:31337').list_actions())"]

CMD [".venv/bin/flight-server", "serve"]
