# Images of unmask, in two stages to choose from (docs/install.md):
#   docker build --target cpu --build-arg TORCH_INDEX=ADDRESS -t unmask:cpu .    # the index of CPU builds on PyTorch's page
#   docker build --target cuda -t unmask:cuda .
# Never built as an image where it was written: tools/run_dockerfile.py ran the instructions of both stages there.

FROM python:3.11-slim AS base
# bubblewrap isolates programs that a model wrote. A C compiler builds a dependency of the puzzles, and Triton's launchers.
RUN apt-get update \
    && apt-get install -y --no-install-recommends bubblewrap gcc g++ libc6-dev \
    && rm -rf /var/lib/apt/lists/*
ENV PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore OMP_NUM_THREADS=1
WORKDIR /opt/unmask
COPY constraints.txt ./
ENTRYPOINT ["unmask"]
CMD ["--help"]

FROM base AS cpu
ARG TORCH_INDEX
RUN pip install -c constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
COPY pyproject.toml setup.py README.md LICENSE ./
COPY configs configs
COPY src src
ARG EXTRAS=data,puzzles,serve,vision
RUN pip install -c constraints.txt ".[$EXTRAS]"
WORKDIR /work

# torch's default build for Linux brings CUDA's libraries; the driver comes from the NVIDIA container toolkit.
FROM base AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN pip install -c constraints.txt torch
COPY pyproject.toml setup.py README.md LICENSE ./
COPY configs configs
COPY src src
ARG EXTRAS=data,puzzles,serve,vision
RUN pip install -c constraints.txt ".[$EXTRAS]"
WORKDIR /work
