# Two images of one project:
#
#   docker build --target serve -t gpt-serve .     the predictor: what a Vertex AI endpoint runs
#   docker build --target train -t gpt-train .     training, and the steps of the pipeline
#
# Both have torch for a CPU; --build-arg ACCELERATOR=cuda gives them the one with CUDA's libraries, several gigabytes.
# The order of the layers is that of how seldom they change: the system, the packages, the code.

FROM python:3.11.13-slim-bookworm AS base
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
# Vertex AI mounts the driver of a GPU there.
ENV LD_LIBRARY_PATH=/usr/local/nvidia/lib64
RUN useradd --create-home --uid 1000 gpt
WORKDIR /app

# Packages are installed in a stage of their own, so that an image has neither pip's cache nor its build files.
FROM base AS installer
ARG ACCELERATOR=cpu
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
COPY requirements-serve.txt requirements-train.txt ./
# torch first, the same version of either build; pip then finds it installed. The default build has CUDA.
RUN case "$ACCELERATOR" in \
        cpu) pip install --no-deps --index-url https://download.pytorch.org/whl/cpu "$(grep '^torch==' requirements-serve.txt)" ;; \
        cuda) pip install "$(grep '^torch==' requirements-serve.txt)" ;; \
        *) echo "ACCELERATOR is '$ACCELERATOR'; give cpu or cuda" >&2; exit 1 ;; \
    esac

FROM installer AS serve-packages
RUN pip install -r requirements-serve.txt

FROM installer AS train-packages
RUN pip install -r requirements-train.txt

FROM base AS serve
COPY --from=serve-packages /opt/venv /opt/venv
COPY gpt/ gpt/
# Vertex AI sets these; the defaults serve a folder that is mounted at /checkpoint.
ENV AIP_HTTP_PORT=8080 \
    AIP_HEALTH_ROUTE=/health \
    AIP_PREDICT_ROUTE=/predict \
    AIP_STORAGE_URI=/checkpoint
USER gpt
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"AIP_HTTP_PORT\"]}{os.environ[\"AIP_HEALTH_ROUTE\"]}', timeout=4)"]
ENTRYPOINT ["python", "-m", "gpt.vertex.predictor"]

FROM base AS train
COPY --from=train-packages /opt/venv /opt/venv
# The trainer keeps Tiny Shakespeare there once it is fetched, so the folder is the user's.
COPY --chown=gpt:gpt data/ data/
# GPT-2's vocabulary, so that its presets need not fetch it.
COPY checkpoints/shakespeare/vocab.bpe checkpoints/shakespeare/vocab.bpe
COPY gpt/ gpt/
COPY train/ train/
USER gpt
# A job ends by itself; nothing answers on a port.
HEALTHCHECK NONE
ENTRYPOINT ["python", "-m", "train.vertex.worker"]
