#!/usr/bin/env bash
# The tests and benches that need a GPU, on a machine that has one and nothing else: no network, no Rust, no GStreamer.
#
#   scripts/gpu-check.sh pack FOLDER
#       On a build machine: packs the program, the tests of the dense maths, ONNX Runtime (plain and with WebGPU),
#       GStreamer and the Vulkan loader, the default model and a clip into pieces of at most 50 MB in FOLDER. Needs
#       `make providers`, ffmpeg, and the build.
#   scripts/gpu-check.sh run FOLDER OUT [SECONDS]
#       On the GPU machine: keeps the pieces that are in FOLDER (they may come in several calls), and once all are there
#       runs the steps that are not done yet, for at most SECONDS (default 540). Call it until it says that all are done.
#       Writes OUT/gpu-check.json and OUT/gpu-check.md, and the log of each step.
#
# GPU_CHECK_STORE: where pieces and results are kept between calls (default /var/tmp/oodstream-gpu-check).
# GPU_CHECK_STEPS: only these steps, by name. GPU_CHECK_MODEL: another network than the default (for a rehearsal on a
# software driver). GPU_CHECK_MEMORY_S: seconds of the step `memory` (default 300).
# GPU_CHECK_PYTHON: a Python for the comparison with PyTorch and OpenCV (default python3 where there is one).
set -euo pipefail

usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
say() { echo "gpu-check: $*"; }

# ---------------------------------------------------------------------------------------------------------- packing

# The libraries that `files` load, without those of glibc, which must be the machine's own.
closure() {
  ldd "$@" 2>/dev/null | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
    grep -Ev '/(libc|libm|libdl|libpthread|librt|libresolv|libutil|ld-linux[^/]*)\.so'
}

pack() {
  cd "$(dirname "$0")/.."
  local folder=$1 plugins=/usr/lib/x86_64-linux-gnu/gstreamer-1.0
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  local root=$scratch/gpu-check
  mkdir -p "$root"/{bin,lib,base,gst,models,plain,webgpu} "$folder"

  cargo build --release --locked
  local tests
  tests=$(cargo test --release --locked --test compute --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*compute[^"]*\)".*/\1/p')
  cp target/release/oodstream "$root/bin/"
  cp "$tests" "$root/bin/compute-tests"
  cp .deps/onnxruntime/lib* "$root/plain/"
  cp target/providers/onnxruntime-webgpu/lib* "$root/webgpu/"
  cp models/default.onnx models/default.toml "$root/models/"
  # Motion JPEG: its decoder is small, where that of H.264 brings a hundred megabytes.
  ffmpeg -v error -y -i samples/street.mp4 -an -c:v mjpeg -q:v 3 "$root/clip.mkv"

  local plugin
  for plugin in coreelements app typefindfunctions playback videoconvertscale videorate videotestsrc videoparsersbad \
    jpegformat jpeg matroska isomp4 x264 audioconvert audioresample audioparsers autodetect deinterlace videofilter; do
    cp "$plugins/libgst$plugin.so" "$root/gst/"
  done
  cp "$(dirname "$plugins")/gstreamer1.0/gstreamer-1.0/gst-plugin-scanner" "$root/bin/"
  local library
  for library in $(closure "$root"/bin/* "$root"/gst/*.so "$root"/plain/*.so* "$root"/webgpu/*.so*) \
    $(ldconfig -p | awk '/libvulkan\.so\.1 / { print $NF; exit }'); do
    case "$library" in
      *libstdc++* | *libgcc_s*) cp -L "$library" "$root/base/" ;; # taken where the machine has none
      *) cp -L "$library" "$root/lib/" ;;
    esac
  done
  find "$root" -name '*.so*' -o -path '*/bin/*' -type f | xargs strip --strip-unneeded 2>/dev/null || true
  cp scripts/gpu-check.py "$root/" 2>/dev/null || true
  git rev-parse --short HEAD > "$root/commit"

  rm -f "$folder"/gpu-check.*
  tar -C "$scratch" -cf - gpu-check | gzip -9 | split -b 50M -d - "$folder/gpu-check.tar.gz."
  (cd "$folder" && sha256sum gpu-check.tar.gz.* > gpu-check.sha256)
  say "$(ls "$folder"/gpu-check.tar.gz.* | wc -l) pieces in $folder:"
  ls -l "$folder" | awk 'NR > 1 { print "  " $NF, int($5 / 1e6) " MB" }'
}

# ---------------------------------------------------------------------------------------------------------- running

# The steps in order: a name, the seconds it may take, what it does.
steps() {
  cat <<'STEPS'
adapters 60 doctor
tests 240 tests
kmeans 90 kmeans
stages 120 stages gpu
stages-f16 120 stages gpu --gpu-f16
stages-cpu 120 stages cpu
pipeline-webgpu 180 pipeline webgpu
pipeline-cpu 180 pipeline cpu
streams-1 60 streams 1
streams-2 60 streams 2
streams-4 60 streams 4
streams-8 60 streams 8
streams-16 60 streams 16
python 180 python
memory 330 memory
STEPS
}

# Elements for files and cameras are left out on purpose: what the doctor misses is no failure here.
step_doctor() { oodstream doctor --json "$1" || true; }

step_tests() {
  OODSTREAM_REQUIRE_GPU=1 "$root/bin/compute-tests" --test-threads 4
}

step_kmeans() { oodstream bench kmeans --compute gpu --json "$1" && oodstream bench kmeans --compute cpu; }

step_stages() { local json=$1 where=$2; shift 2; oodstream bench stages --compute "$where" "$@" --json "$json"; }

step_pipeline() {
  ORT_DYLIB_PATH=$(library "$2") oodstream bench pipeline "$root/clip.mkv" --provider "$2" --repeats 5 --batch 1,2,4,8,16 \
    --json "$1"
}

# How many frames a second N streams of 720p get, fed with more than they can take.
step_streams() {
  local json=$1 count=$2 index
  for index in $(seq "$count"); do
    printf '[[stream]]\nname = "s%s"\ninput = "test://ball?width=1280&height=720&fps=200&live=1"\noutput = ["none"]\n' "$index"
  done > "$work/streams.toml"
  ORT_DYLIB_PATH=$(library webgpu) oodstream run -c "$work/streams.toml" --provider "$provider" --for 20 --json "$json"
}

# Memory of the process and of the device over five minutes of four streams.
step_memory() {
  local json=$1 seconds=${GPU_CHECK_MEMORY_S:-300} pid index
  for index in 1 2 3 4; do
    printf '[[stream]]\nname = "s%s"\ninput = "test://ball?width=1280&height=720&fps=30&live=1"\noutput = ["none"]\n' "$index"
  done > "$work/memory.toml"
  ORT_DYLIB_PATH=$(library webgpu) oodstream run -c "$work/memory.toml" --provider "$provider" --for "$seconds" -q &
  pid=$!
  {
    echo '{"samples":['
    local first=1 start=$SECONDS
    while kill -0 "$pid" 2>/dev/null && [ $((SECONDS - start)) -lt "$seconds" ]; do
      sleep 5
      local resident device
      resident=$(awk '/VmRSS/ { print $2 }' "/proc/$pid/status" 2>/dev/null || true)
      device=$(nvidia-smi --query-compute-apps=pid,used_memory --format=csv,noheader,nounits 2>/dev/null |
        awk -F, -v pid="$pid" '$1 == pid { sum += $2 } END { print sum + 0 }' || echo 0)
      [ -n "$resident" ] || continue
      [ "$first" = 1 ] || echo ','
      first=0
      echo "{\"s\":$((SECONDS - start)),\"resident_kb\":$resident,\"device_mb\":${device:-0}}"
    done
    echo ']}'
  } > "$json"
  wait "$pid"
  awk -F'[:,}]' '/"s"/ { if (!first) first = $4; last = $4 } END { print "resident " first " kB at first, " last " kB at last" }' "$json"
}

step_python() {
  local python=${GPU_CHECK_PYTHON:-python3}
  command -v "$python" >/dev/null || { echo "skipped: no Python here"; return 0; }
  "$python" "$root/gpu-check.py" --model "$OODSTREAM_MODEL" --clip "$root/clip.mkv" --json "$1"
}

library() {
  case "$1" in
    webgpu) ls "$root"/webgpu/libonnxruntime.so.* ;;
    *) ls "$root"/plain/libonnxruntime.so.* ;;
  esac
}

oodstream() { "$root/bin/oodstream" "$@"; }

run() {
  local folder=$1 out=$2 budget=${3:-540} begin=$SECONDS
  local store=${GPU_CHECK_STORE:-/var/tmp/oodstream-gpu-check}
  mkdir -p "$store" "$out"
  find "$folder" -maxdepth 1 -name 'gpu-check.*' -exec cp {} "$store/" \;
  [ -f "$store/gpu-check.sha256" ] || { say "no pieces in $folder: see \`pack\`"; exit 1; }
  if ! (cd "$store" && sha256sum --quiet -c gpu-check.sha256) > "$store/missing" 2>&1; then
    say "pieces that are missing or damaged:"
    grep -o 'gpu-check\.tar\.gz\.[0-9]*' "$store/missing" | sort -u
    exit 3
  fi
  if [ ! -f "$store/unpacked" ]; then
    cat "$store"/gpu-check.tar.gz.* | tar -C "$store" -xzf -
    touch "$store/unpacked"
  fi

  root=$store/gpu-check work=$store/work results=$store/results
  mkdir -p "$work" "$results"
  export LD_LIBRARY_PATH=$root/lib GST_PLUGIN_SYSTEM_PATH_1_0=$root/gst GST_REGISTRY=$work/registry
  export GST_PLUGIN_SCANNER=$root/bin/gst-plugin-scanner XDG_CACHE_HOME=$work/cache OODSTREAM_MODEL=${GPU_CHECK_MODEL:-$root/models/default.onnx}
  if [ ! -e /usr/lib/x86_64-linux-gnu/libstdc++.so.6 ]; then LD_LIBRARY_PATH+=:$root/base; fi
  export ORT_DYLIB_PATH
  ORT_DYLIB_PATH=$(library plain)
  # A driver that was installed without its entry among the system's.
  if [ -z "${VK_DRIVER_FILES:-}" ] && [ -f /usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json ]; then
    export VK_DRIVER_FILES=/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json
  fi
  provider=${GPU_CHECK_PROVIDER:-webgpu}

  local name limit step left=0
  while read -r name limit step; do
    [ -f "$results/$name.rc" ] && continue
    case " ${GPU_CHECK_STEPS:-$name} " in *" $name "*) ;; *) continue ;; esac
    local remaining=$((budget - (SECONDS - begin)))
    if [ "$remaining" -lt "$limit" ]; then
      left=$((left + 1))
      continue
    fi
    say "$name (at most $limit s)"
    local from=$SECONDS code=0
    # A process of its own, so that `timeout` can end it with all that it started.
    # shellcheck disable=SC2086
    set -- $step
    timeout --kill-after 10 "$limit" bash "$0" step "$root" "$work" "$provider" "$results/$name.json" "$@" \
      > "$results/$name.log" 2>&1 < /dev/null || code=$?
    echo "$code $((SECONDS - from))" > "$results/$name.rc"
    say "$name: $([ "$code" = 0 ] && echo ok || echo "failed ($code)"), $((SECONDS - from)) s"
  done < <(steps)
  report "$out"
  if [ "$left" -gt 0 ]; then say "$left steps left: call again"; else say "all steps are done; $out/gpu-check.md"; fi
}

report() {
  local out=$1 name limit step code seconds
  {
    printf '{"commit":"%s","device":"%s","steps":{' "$(cat "$root/commit")" \
      "$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -1)"
    local comma=
    while read -r name limit step; do
      [ -f "$results/$name.rc" ] || continue
      read -r code seconds < "$results/$name.rc"
      printf '%s"%s":{"rc":%s,"seconds":%s,"report":' "$comma" "$name" "$code" "$seconds"
      if [ -s "$results/$name.json" ]; then cat "$results/$name.json"; else printf null; fi
      printf '}'
      comma=,
    done < <(steps)
    printf '}}\n'
  } > "$out/gpu-check.json"
  {
    echo "| step | result | seconds | said last |"
    echo "|---|---|---|---|"
    while read -r name limit step; do
      if [ ! -f "$results/$name.rc" ]; then echo "| $name | not run | | |"; continue; fi
      read -r code seconds < "$results/$name.rc"
      echo "| $name | $([ "$code" = 0 ] && echo ok || echo "exit $code") | $seconds | $(grep -v '^ *$' "$results/$name.log" | tail -1 | tr '|' '/' | cut -c1-200) |"
    done < <(steps)
  } > "$out/gpu-check.md"
  tar -C "$results" -czf "$out/gpu-check-logs.tar.gz" .
}

case "${1:-}" in
  pack) [ $# -eq 2 ] || usage; pack "$2" ;;
  run) [ $# -ge 3 ] || usage; run "$2" "$3" "${4:-540}" ;;
  step) # one step, in a process of its own
    root=$2 work=$3 provider=$4 json=$5 name=$6
    shift 6
    "step_$name" "$json" "$@"
    ;;
  *) usage ;;
esac
