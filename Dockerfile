# speechkd with everything it needs to run any stage, the demo included.
#
#   docker build -t speechkd .                       CUDA; run with --gpus all
#   docker build -t speechkd --build-arg BASE=python:3.11-slim-bookworm \
#       --build-arg TORCH_BACKEND=cpu .              CPU
#   docker build -t speechkd --build-arg BASE=nvidia/cuda:12.8.1-base-ubuntu24.04 \
#       --build-arg TORCH=torch==2.10.0 .            CUDA 12, for drivers older than 580
#   docker run --rm -v "$PWD/out:/out" speechkd demo --out /out/demo
#
# BASE is any Debian or Ubuntu whose Python is 3.11 or newer, or that can install one. A bare Debian
# 12 was tried, by .ci/build-image, which needs no Docker; the CUDA bases have not been. pip's build of
# torch is for CUDA 13 from 2.11 on: the base names the same CUDA, so that a driver too old for it is
# refused when the container starts. docs/versions.md says which driver takes which build.
ARG BASE=nvidia/cuda:13.0.2-base-ubuntu24.04

# hadolint ignore=DL3006
FROM ${BASE} AS build
ARG TORCH=torch==2.13.0
ARG TORCH_BACKEND=default
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates make \
    && { command -v python3 || apt-get install -y --no-install-recommends python3; }
WORKDIR /opt/speechkd
COPY pyproject.toml constraints.txt Makefile README.md LICENSE ./
# The packages are empty yet: a change of the code leaves this layer, and torch in it, as it is.
RUN mkdir -p pipeline stages && touch pipeline/__init__.py stages/__init__.py \
    && make install sbom VENV=/opt/venv SBOM=/opt/venv/sbom.json \
       TORCH="$TORCH" TORCH_BACKEND="$TORCH_BACKEND" \
    && rm -rf /root/.cache

# hadolint ignore=DL3006
FROM ${BASE}
ARG TORCH_BACKEND=default
# A compiler for a GPU: Triton, behind torch.compile, builds a launcher in C for each of its kernels.
# hadolint ignore=DL3008
RUN apt-get update \
    && { command -v python3 || apt-get install -y --no-install-recommends python3; } \
    && { [ "$TORCH_BACKEND" = cpu ] \
         || apt-get install -y --no-install-recommends gcc libc6-dev python3-dev; } \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home speechkd
COPY --from=build /opt/venv /opt/venv
WORKDIR /opt/speechkd
COPY pyproject.toml README.md LICENSE ./
COPY pipeline pipeline
COPY stages stages
ENV PATH=/opt/venv/bin:$PATH \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001
WORKDIR /home/speechkd
HEALTHCHECK --interval=5m --timeout=60s CMD ["speechkd", "doctor", "--no-network"]
ENTRYPOINT ["speechkd"]
CMD ["--help"]
