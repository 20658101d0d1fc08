# speechkd with everything it needs to run any stage, the demo included.
#
#   docker build -t speechkd .                       CUDA 13, for drivers from 580 on
#   docker build -t speechkd --build-arg CUDA=12 .   CUDA 12, for drivers from 525 on
#   docker build -t speechkd --build-arg CUDA= .     CPU
#   docker run --rm --gpus all --shm-size 8g --user "$(id -u):$(id -g)" -e HOME=/tmp \
#       -v "$PWD/out:/out" speechkd demo --out /out/demo
#
# CUDA's libraries come with pip's build of torch, Triton's assembler among them, and the driver from the
# host, through NVIDIA's container toolkit. So BASE needs no CUDA: it is any Debian or Ubuntu whose
# Python is 3.11 or newer, or that can install one. TORCH and TORCH_BACKEND are those of the Makefile.
# docs/versions.md says which driver takes which build; `.ci/build-image` builds without Docker.
ARG BASE=debian:bookworm-slim

# hadolint ignore=DL3006
FROM ${BASE} AS build
ARG CUDA=13
ARG TORCH
ARG TORCH_BACKEND
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates make \
    && { command -v python3 || apt-get install -y --no-install-recommends python3; }
WORKDIR /opt/speechkd
COPY pyproject.toml constraints.txt Makefile README.md LICENSE ./
# The packages are empty yet: a change of the code leaves this layer, and torch in it, as it is.
# PyTorch's last build for CUDA 12 on PyPI is that of 2.10.
RUN mkdir -p pipeline stages && touch pipeline/__init__.py stages/__init__.py \
    && if [ "$CUDA" = 12 ]; then TORCH="${TORCH:-torch==2.10.0}"; fi \
    && if [ -z "$CUDA" ]; then TORCH_BACKEND="${TORCH_BACKEND:-cpu}"; fi \
    && make install sbom VENV=/opt/venv SBOM=/opt/venv/sbom.json \
       ${TORCH:+TORCH="$TORCH"} TORCH_BACKEND="${TORCH_BACKEND:-default}" \
    && rm -rf /root/.cache
RUN built=$(/opt/venv/bin/python -c 'import torch; print(torch.version.cuda or "no CUDA")') \
    && case "$built" in "${CUDA:-$built}"|"$CUDA".*) ;; \
       *) echo "this torch is built for $built, and the image for CUDA=$CUDA"; exit 1 ;; esac

# hadolint ignore=DL3006
FROM ${BASE}
ARG CUDA=13
# For a GPU a compiler: Triton, behind torch.compile, builds its launchers in C, against Python.h.
# hadolint ignore=DL3008
RUN apt-get update \
    && { command -v python3 || apt-get install -y --no-install-recommends python3; } \
    && { [ -z "$CUDA" ] \
         || apt-get install -y --no-install-recommends gcc libc6-dev python3-dev; } \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home speechkd
COPY --from=build /opt/venv /opt/venv
WORKDIR /opt/speechkd
COPY pyproject.toml README.md LICENSE ./
COPY pipeline pipeline
COPY stages stages
# The toolkit reads what the image wants: every GPU, nvidia-smi beside CUDA, and a driver that is new enough.
# Without CUDA all three are empty, and the toolkit leaves the container alone. Where no toolkit is at
# work, as on Google's clusters, the driver lies in /usr/local/nvidia. Older versions of torch compile for
# nobody without a name, which a number given by --user has only here.
ENV USER=speechkd \
    PATH=/opt/venv/bin:$PATH:/usr/local/nvidia/bin \
    LD_LIBRARY_PATH=/usr/local/nvidia/lib64 \
    NVIDIA_VISIBLE_DEVICES=${CUDA:+all} \
    NVIDIA_DRIVER_CAPABILITIES=${CUDA:+compute,utility} \
    NVIDIA_REQUIRE_CUDA=${CUDA:+cuda>=$CUDA.0}
USER 10001
WORKDIR /home/speechkd
HEALTHCHECK --interval=5m --timeout=60s CMD ["speechkd", "doctor", "--no-network"]
ENTRYPOINT ["speechkd"]
CMD ["--help"]
