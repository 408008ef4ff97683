# Two images from one file:
#
#   docker build --target portal --tag papita-portal .
#   docker build --target alchat --tag papita-alchat .
#
# The AL-Chat image holds neither papita_core nor Streamlit: all it knows of Papita is an address.
# Both run as uid 10001 with a read-only root; what has to last is in the volumes, /tmp a tmpfs.

ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS python
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    HOME=/tmp
WORKDIR /app

# pip lives in an environment of its own, so that the one which is copied holds no installer.
FROM python AS installer
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/venv

FROM installer AS alchat-requirements
COPY requirements-alchat.txt ./
RUN /opt/pip/bin/pip --python /opt/venv/bin/python install \
      --require-hashes --no-deps --only-binary :all: -r requirements-alchat.txt

FROM installer AS portal-requirements
COPY requirements.txt ./
RUN /opt/pip/bin/pip --python /opt/venv/bin/python install \
      --require-hashes --no-deps --only-binary :all: -r requirements.txt

FROM python AS service
RUN groupadd --gid 10001 papita \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin papita \
 && install -d -o 10001 -g 10001 -m 0700 /data /keys
ENV PAPITA_DATA_DIR=/data

FROM service AS alchat
LABEL org.opencontainers.image.title="AL-Chat" \
      org.opencontainers.image.licenses="MIT"
COPY --from=alchat-requirements /opt/venv /opt/venv
COPY LICENSE ./
COPY migrations/alchat migrations/alchat
COPY sqlkit sqlkit
COPY alchat_core alchat_core
RUN python -m compileall -q /app
ENV ALCHAT_HOST=0.0.0.0 \
    ALCHAT_PORT=8000
USER 10001:10001
VOLUME ["/data"]
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=4s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import http.client as h, os, sys; c = h.HTTPConnection('127.0.0.1', int(os.environ['ALCHAT_PORT']), timeout=3); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
CMD ["python", "-m", "alchat_core"]

FROM service AS portal
LABEL org.opencontainers.image.title="Papita" \
      org.opencontainers.image.licenses="MIT"
COPY --from=portal-requirements /opt/venv /opt/venv
COPY LICENSE Home.py ./
COPY .streamlit .streamlit
COPY migrations/papita migrations/papita
COPY sqlkit sqlkit
COPY alchat_core alchat_core
COPY papita_core papita_core
COPY portal portal
COPY pages pages
RUN python -m compileall -q /app
ENV PAPITA_HOST=0.0.0.0 \
    PAPITA_PORT=3000
USER 10001:10001
VOLUME ["/data", "/keys"]
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=4s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import http.client as h, os, sys; c = h.HTTPConnection('127.0.0.1', int(os.environ['PAPITA_PORT']), timeout=3); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
CMD ["python", "-m", "portal"]
