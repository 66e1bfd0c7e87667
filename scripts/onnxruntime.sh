#!/usr/bin/env bash
# Fetches an ONNX Runtime library from its PyPI wheel, unless it is there; version and hashes are pinned in
# scripts/BUILD.txt. Needs python3 with pip.
#
#   scripts/onnxruntime.sh [BUILD] [FOLDER]
#
# BUILD: onnxruntime (default), onnxruntime-webgpu or onnxruntime-openvino; the latter two bring one provider each.
# FOLDER: where the folder BUILD is made (default .deps, where the program looks for it).
set -euo pipefail
cd "$(dirname "$0")/.."

build=${1:-onnxruntime}
folder=${2:-.deps}/$build
pin=scripts/$build.txt
[ -f "$pin" ] || { echo "onnxruntime: no build \`$build\`; there are $(cd scripts && ls onnxruntime*.txt | sed 's/\.txt//' | tr '\n' ' ')" >&2; exit 2; }
version=$(sed -n "s/^$build==\([0-9.]*\).*/\1/p" "$pin")
library=$folder/libonnxruntime.so.$version
[ -f "$library" ] && exit 0

machine=$(uname -m)
case "$machine" in
  x86_64) platforms=(manylinux_2_28_x86_64 manylinux_2_27_x86_64) ;;
  aarch64) platforms=(manylinux_2_28_aarch64 manylinux_2_27_aarch64) ;;
  *)
    echo "onnxruntime: no wheel for $machine; set ORT_DYLIB_PATH to a library of version $version or later" >&2
    exit 1
    ;;
esac
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
echo "onnxruntime: fetching $build $version"
python3 -m pip download --quiet --no-deps --require-hashes --only-binary=:all: --implementation cp \
  --python-version 3.11 "${platforms[@]/#/--platform=}" --dest "$scratch" --requirement "$pin"
python3 -m zipfile -e "$scratch"/onnxruntime*.whl "$scratch/wheel"
wheel=$scratch/wheel/onnxruntime
mkdir -p "$folder"
cp "$wheel/LICENSE" "$wheel/ThirdPartyNotices.txt" "$folder/"
# The providers that are libraries of their own, and what they load, each under the one name that is asked for: of
# libopenvino.so, libopenvino.so.2541 and libopenvino.so.2025.4.1 the second.
for file in "$wheel"/capi/lib*.so "$wheel"/capi/lib*.so.*; do
  name=${file##*/}
  case "$name" in
    libonnxruntime.so.* | libonnxruntime_providers_shared.so | *.so.*.*) continue ;;
    *.so) if ls "$file".* >/dev/null 2>&1; then continue; fi ;;
  esac
  if [ -f "$file" ]; then cp "$file" "$folder/"; fi
done
if ls "$folder"/libonnxruntime_providers_*.so >/dev/null 2>&1; then
  cp "$wheel/capi/libonnxruntime_providers_shared.so" "$folder/"
fi
# Last and by a rename: a library under its final name is a whole one.
cp "$wheel/capi/libonnxruntime.so.$version" "$library.part"
mv "$library.part" "$library"
