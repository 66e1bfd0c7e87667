# syntax=docker/dockerfile:1
# Container images; docs/install.md shows their use.
#
#   docker build -t oodstream .                                  with the free model
#   docker build -t oodstream:research --target research .       with the default model, for research only

FROM rust:1.92-slim-bookworm AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# Debian's current packages, with their security fixes, rather than pinned versions.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends \
        pkg-config python3-pip \
        libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libgstrtspserver-1.0-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# ONNX Runtime by pinned version and hash; a layer of its own, which changes with these two files alone.
COPY scripts/onnxruntime.sh scripts/onnxruntime.txt scripts/
RUN scripts/onnxruntime.sh
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin oodstream \
    && install -D target/release/oodstream /out/bin/oodstream \
    && install -D -m 644 -t /out/lib/oodstream .deps/onnxruntime/libonnxruntime.so.* \
    && install -D -m 644 -t /out/share/doc/oodstream .deps/onnxruntime/LICENSE \
        .deps/onnxruntime/ThirdPartyNotices.txt LICENSE-MIT LICENSE-APACHE

FROM debian:bookworm-slim AS runtime
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends \
        ca-certificates glib-networking libvulkan1 \
        gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly \
        gstreamer1.0-libav gstreamer1.0-rtsp gstreamer1.0-x libgstrtspserver-1.0-0 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --home-dir /data --create-home --shell /usr/sbin/nologin oodstream
COPY --from=build /out /usr/local
COPY pipelines /usr/local/share/oodstream/pipelines
COPY models/free.onnx models/free.toml models/MODEL_CARD.md /usr/local/share/oodstream/models/
# All that is written outside of /data is GStreamer's list of plugins and temporary files: with a read-only root file
# system, give it a tmpfs at /tmp.
ENV XDG_CACHE_HOME=/tmp XDG_RUNTIME_DIR=/tmp
WORKDIR /data
VOLUME /data
USER 10001:10001
# RTSP, RTSP with TLS, health and metrics, as far as a pipeline opens them.
EXPOSE 8554 8322 9090
# SIGTERM finishes the outputs.
STOPSIGNAL SIGTERM
ENTRYPOINT ["oodstream"]
CMD ["--help"]

# With the default model, whose weights were trained on CamVid (CC BY-NC): for research and evaluation only.
FROM runtime AS research
COPY models/default.onnx models/default.toml /usr/local/share/oodstream/models/

# The default target: weights for any use alone.
FROM runtime AS program
