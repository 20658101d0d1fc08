# speechkd with everything it needs to run any stage, the demo included.
#
#   docker build -t speechkd .                                    CPU
#   docker build -t speechkd --build-arg TORCH_BACKEND=default .  CUDA, run with --gpus all
#   docker run --rm -v "$PWD/out:/out" speechkd demo --out /out/demo
FROM python:3.11-slim-bookworm

ARG TORCH=torch==2.13.0
ARG TORCH_BACKEND=cpu

RUN apt-get update \
    && apt-get install -y --no-install-recommends make git \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/speechkd
COPY pyproject.toml constraints.txt Makefile README.md LICENSE ./
COPY pipeline pipeline
COPY stages stages
RUN make install VENV=/opt/venv TORCH="$TORCH" TORCH_BACKEND="$TORCH_BACKEND" \
    && rm -rf /root/.cache

RUN useradd --create-home speechkd
USER speechkd
WORKDIR /home/speechkd
ENTRYPOINT ["/opt/venv/bin/speechkd"]
CMD ["--help"]
