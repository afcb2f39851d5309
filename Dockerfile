# docker build --build-arg DEVICE=cuda -t automl .
# docker build --build-arg DEVICE=cpu --build-arg TORCH_INDEX=<PyTorch's package index for CPU builds> -t automl .
# docker run --gpus all --shm-size 8g -v "$PWD:/data" automl search /data/images --space overnight-gpu --budget 8h
FROM python:3.11-slim

ARG DEVICE=cuda
# Only for DEVICE=cpu: the default index has torch for Linux with CUDA, which also runs on a CPU but is 6 GB larger.
ARG TORCH_INDEX=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

COPY requirements.lock pyproject.toml README.md LICENSE /opt/automl/
RUN cd /opt/automl && \
    if [ "$DEVICE" = cpu ]; then \
        grep -E '^(torch|torchvision)==' requirements.lock > /tmp/torch.txt && \
        { test -n "$TORCH_INDEX" || { echo "DEVICE=cpu needs --build-arg TORCH_INDEX=..."; exit 1; }; } && pip install --index-url "$TORCH_INDEX" -r /tmp/torch.txt && \
        grep -viE '^(nvidia|cuda|triton)' requirements.lock > /tmp/rest.txt && \
        pip install -r /tmp/rest.txt; \
    elif [ "$DEVICE" = cuda ]; then \
        pip install -r requirements.lock; \
    else \
        echo "DEVICE must be cuda or cpu: given $DEVICE" && exit 1; \
    fi

COPY automl /opt/automl/automl
COPY search_spaces /opt/automl/search_spaces
RUN pip install --no-deps --no-build-isolation /opt/automl && useradd --create-home --uid 1000 automl && \
    mkdir /data && chown automl:automl /data

USER automl
WORKDIR /data
HEALTHCHECK --interval=5m --timeout=60s CMD ["automl", "doctor"]
ENTRYPOINT ["automl"]
CMD ["--help"]
