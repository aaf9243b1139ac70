# Four images: --target coordinator, selector, webserver, client. docs/deployment.md says how they
# are run. Nothing here needs a builder's newer features, so that any Docker since 20.10 builds it.

ARG PYTHON_IMAGE=python:3.11-slim

# -- Build: what is needed for it stays behind ------------------------------------------------------

FROM ${PYTHON_IMAGE} AS wheel
RUN ["python3", "-m", "venv", "/opt/build"]
COPY deploy/requirements-build.txt /tmp/
RUN ["/opt/build/bin/pip", "install", "--no-cache-dir", "--require-hashes", "-r", "/tmp/requirements-build.txt"]
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY federation federation
COPY coordinator coordinator
COPY selector selector
COPY client client
COPY webserver webserver
COPY headwater headwater
RUN ["/opt/build/bin/pip", "wheel", "--no-cache-dir", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", "/wheels", "."]

# The dependencies come first: they change less often than we do. pip is not among what is installed.
FROM ${PYTHON_IMAGE} AS servers-dependencies
RUN ["python3", "-m", "venv", "/opt/build"]
RUN ["python3", "-m", "venv", "--without-pip", "/opt/headwater"]
COPY deploy/requirements-servers.txt /tmp/
RUN ["/opt/build/bin/pip", "--python", "/opt/headwater/bin/python3", "install", "--no-cache-dir", "--require-hashes", "--only-binary", ":all:", "-r", "/tmp/requirements-servers.txt"]

FROM servers-dependencies AS servers
COPY --from=wheel /wheels /wheels
RUN ["/opt/build/bin/pip", "--python", "/opt/headwater/bin/python3", "install", "--no-cache-dir", "--no-deps", "--no-index", "--find-links", "/wheels", "headwater"]

FROM servers-dependencies AS webserver-dependencies
COPY deploy/requirements-webserver.txt /tmp/
RUN ["/opt/build/bin/pip", "--python", "/opt/headwater/bin/python3", "install", "--no-cache-dir", "--require-hashes", "--only-binary", ":all:", "-r", "/tmp/requirements-webserver.txt"]
COPY --from=wheel /wheels /wheels
RUN ["/opt/build/bin/pip", "--python", "/opt/headwater/bin/python3", "install", "--no-cache-dir", "--no-deps", "--no-index", "--find-links", "/wheels", "headwater"]

FROM servers-dependencies AS client-dependencies
COPY deploy/requirements-client.txt /tmp/
RUN ["/opt/build/bin/pip", "--python", "/opt/headwater/bin/python3", "install", "--no-cache-dir", "--require-hashes", "--prefer-binary", "-r", "/tmp/requirements-client.txt"]
COPY --from=wheel /wheels /wheels
RUN ["/opt/build/bin/pip", "--python", "/opt/headwater/bin/python3", "install", "--no-cache-dir", "--no-deps", "--no-index", "--find-links", "/wheels", "headwater"]

# -- Run: an unprivileged user, and /data for what outlives the container ----------------------------

FROM ${PYTHON_IMAGE} AS run
RUN groupadd --gid 10001 headwater \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin headwater \
    && install --directory --owner 10001 --group 10001 /data
ENV PATH=/opt/headwater/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HEADWATER_DRAIN_S=5 \
    HEADWATER_LOG_TO=stdout
WORKDIR /data
USER 10001:10001
ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM run AS coordinator
LABEL org.opencontainers.image.title="Headwater coordinator" \
      org.opencontainers.image.description="Runs the rounds of federated learning and commits its checkpoints."
ENV HEADWATER_HOST=0.0.0.0 \
    HEADWATER_SHARED_DATA=/data
EXPOSE 50050
COPY --from=servers /opt/headwater /opt/headwater
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python3", "-m", "headwater.health", "127.0.0.1:50050"]
ENTRYPOINT ["headwater", "coordinator"]

FROM run AS selector
LABEL org.opencontainers.image.title="Headwater selector" \
      org.opencontainers.image.description="Holds clients, hands out the model and sums up their reports."
ENV HEADWATER_HOST=0.0.0.0 \
    HEADWATER_SHARED_DATA=/data
EXPOSE 50051
COPY --from=servers /opt/headwater /opt/headwater
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python3", "-m", "headwater.health", "127.0.0.1:50051"]
ENTRYPOINT ["headwater", "selector"]

FROM run AS webserver
LABEL org.opencontainers.image.title="Headwater webserver" \
      org.opencontainers.image.description="Shows a federation live: a page and its API."
ENV HEADWATER_HOST=0.0.0.0 \
    HEADWATER_DATABASE=/data/webserver.db
EXPOSE 8050
COPY --from=webserver-dependencies /opt/headwater /opt/headwater
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python3", "-m", "headwater.health", "http://127.0.0.1:8050/healthz"]
ENTRYPOINT ["headwater", "webserver"]

# A client is nobody's server, so there is nothing to ask it: its process ends when it fails.
FROM run AS client
LABEL org.opencontainers.image.title="Headwater client" \
      org.opencontainers.image.description="Trains on local data when it is asked, with TensorFlow on CPUs."
ENV XDG_CACHE_HOME=/tmp/cache \
    XDG_STATE_HOME=/data \
    TF_CPP_MIN_LOG_LEVEL=2
WORKDIR /app
COPY --from=client-dependencies /opt/headwater /opt/headwater
ENTRYPOINT ["headwater", "client"]
