#!/usr/bin/env bash
# Brings what the build and the tests need and is not there yet: Debian packages, and the ONNX Runtime library out of its
# PyPI wheel (version and hash pinned in scripts/onnxruntime.txt) into .deps/onnxruntime.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
  pkg-config gcc libc6-dev python3-pip
  libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev
  gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad
  gstreamer1.0-plugins-ugly gstreamer1.0-libav
  libgstrtspserver-1.0-dev gstreamer1.0-rtsp gstreamer1.0-x glib-networking openssl xvfb
  mesa-vulkan-drivers ffmpeg
)

installed() { dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }

missing=()
for package in "${packages[@]}"; do installed "$package" || missing+=("$package"); done
if [ ${#missing[@]} -gt 0 ]; then
  as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "deps: run as root, or install: ${missing[*]}" >&2; exit 1; }
    as_root=(sudo)
  fi
  echo "deps: installing ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

version=$(sed -n 's/^onnxruntime==\([0-9.]*\).*/\1/p' scripts/onnxruntime.txt)
library=.deps/onnxruntime/libonnxruntime.so.$version
if [ ! -f "$library" ]; then
  case "$(uname -m)" in
    x86_64) platform=manylinux_2_28_x86_64 ;;
    aarch64) platform=manylinux_2_28_aarch64 ;;
    *) echo "deps: no ONNX Runtime wheel for $(uname -m); set ORT_DYLIB_PATH to a library of version $version or later" >&2; exit 1 ;;
  esac
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  echo "deps: fetching ONNX Runtime $version"
  python3 -m pip download --quiet --no-deps --require-hashes --only-binary=:all: --implementation cp --python-version 3.11 \
    --platform "$platform" --dest "$scratch" --requirement scripts/onnxruntime.txt
  python3 -m zipfile -e "$scratch"/onnxruntime-*.whl "$scratch/wheel"
  mkdir -p .deps/onnxruntime
  cp "$scratch/wheel/onnxruntime/LICENSE" "$scratch/wheel/onnxruntime/ThirdPartyNotices.txt" .deps/onnxruntime/
  # Last and by a rename: a library under its final name is a whole one.
  cp "$scratch/wheel/onnxruntime/capi/libonnxruntime.so.$version" "$library.part"
  mv "$library.part" "$library"
fi
