#!/usr/bin/env bash
# Fetches what the tests of the page and of the dashboard need: Chromium, installed, and Prometheus, in target/tools, since
# its package would start a service.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=target/tools

scripts/deps.sh chromium
if [ ! -x "$folder/prometheus" ]; then
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  echo "tools: fetching Prometheus"
  # Apt reads as the user _apt, which may not read the scratch folder.
  fetch() { (cd "$scratch" && apt-get download -qq -o APT::Sandbox::User=root prometheus); }
  fetch 2>/dev/null || { $([ "$(id -u)" -eq 0 ] || echo sudo) apt-get update -qq && fetch; }
  dpkg-deb -x "$scratch"/prometheus_*.deb "$scratch/package"
  mkdir -p "$folder"
  cp "$scratch/package/usr/bin/promtool" "$scratch/package/usr/bin/prometheus" "$folder/"
fi
