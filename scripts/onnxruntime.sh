#!/usr/bin/env bash
# Fetches the ONNX Runtime library from its PyPI wheel (version and hash pinned in scripts/onnxruntime.txt) into
# .deps/onnxruntime, unless it is there. Needs python3 with pip.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n 's/^onnxruntime==\([0-9.]*\).*/\1/p' scripts/onnxruntime.txt)
library=.deps/onnxruntime/libonnxruntime.so.$version
if [ ! -f "$library" ]; then
  case "$(uname -m)" in
    x86_64) platform=manylinux_2_28_x86_64 ;;
    aarch64) platform=manylinux_2_28_aarch64 ;;
    *)
      echo "onnxruntime: no wheel for $(uname -m); set ORT_DYLIB_PATH to a library of version $version or later" >&2
      exit 1
      ;;
  esac
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  echo "onnxruntime: fetching version $version"
  python3 -m pip download --quiet --no-deps --require-hashes --only-binary=:all: --implementation cp \
    --python-version 3.11 --platform "$platform" --dest "$scratch" --requirement scripts/onnxruntime.txt
  python3 -m zipfile -e "$scratch"/onnxruntime-*.whl "$scratch/wheel"
  mkdir -p .deps/onnxruntime
  cp "$scratch/wheel/onnxruntime/LICENSE" "$scratch/wheel/onnxruntime/ThirdPartyNotices.txt" .deps/onnxruntime/
  # Last and by a rename: a library under its final name is a whole one.
  cp "$scratch/wheel/onnxruntime/capi/libonnxruntime.so.$version" "$library.part"
  mv "$library.part" "$library"
fi
