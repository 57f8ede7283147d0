# Built in one image, run in another: no compiler, no pip cache and no source tree in what is shipped.
FROM python:3.13-slim AS builder
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev
ENV INFERENCE_ROUTER_NATIVE=1
WORKDIR /src
COPY pyproject.toml README.md config.yaml ./
COPY deploy/native.py deploy/native.py
COPY router router
COPY providers providers
RUN python -m venv /opt/router && /opt/router/bin/pip install --no-cache-dir '.[redis,postgres,jwt]'

FROM python:3.13-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/router router
COPY --from=builder /opt/router /opt/router
ENV PATH=/opt/router/bin:$PATH PYTHONUNBUFFERED=1
USER router
WORKDIR /var/lib/router
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["python", "-c", "import http.client as c; h = c.HTTPConnection('127.0.0.1', 8080, timeout=2); h.request('GET', '/health/liveness'); assert h.getresponse().status == 200"]
# Listening beyond loopback needs a key: `docker run -e ROUTER_KEY=… -p 8080:8080`.
ENTRYPOINT ["inference-router"]
CMD ["serve", "--host", "0.0.0.0"]
