#!/usr/bin/env bash
# Fetches what the tests of the execution providers need into target/providers, unless it is there: the libraries with
# WebGPU and OpenVINO, and SwiftShader, the software Vulkan of Debian's `chromium-common` package (Debian 12's
# lavapipe lacks a feature that the WebGPU provider requires). Not in .deps: there the program would use them. x86_64 only.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=target/providers

if [ "$(uname -m)" != x86_64 ]; then
  echo "providers: no wheels for $(uname -m); the tests of WebGPU and OpenVINO skip" >&2
  exit 0
fi
scripts/onnxruntime.sh onnxruntime-webgpu "$folder"
scripts/onnxruntime.sh onnxruntime-openvino "$folder"

driver=$folder/swiftshader/vk_swiftshader_icd.json
if [ ! -f "$driver" ]; then
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  echo "providers: fetching SwiftShader"
  if [ -f /usr/lib/chromium/libvk_swiftshader.so ]; then
    chromium=/usr/lib/chromium
  else
    # The package alone, without what a browser needs. Apt reads as the user _apt, which may not read the scratch folder.
    fetch() { (cd "$scratch" && apt-get download -qq -o APT::Sandbox::User=root chromium-common); }
    fetch 2>/dev/null || { $([ "$(id -u)" -eq 0 ] || echo sudo) apt-get update -qq && fetch; }
    dpkg-deb -x "$scratch"/chromium-common_*.deb "$scratch/package"
    chromium=$scratch/package/usr/lib/chromium
  fi
  mkdir -p "$folder/swiftshader"
  cp "$chromium/libvk_swiftshader.so" "$folder/swiftshader/"
  cp "$chromium/vk_swiftshader_icd.json" "$driver.part"
  mv "$driver.part" "$driver"
fi
