#!/usr/bin/env bash
# Checks the documents: lines of at most 120 characters, links to files that exist, and citations of docs/method.md
# (`M5`) whose step exists. The model card's tables are measured by training runs and are not wrapped.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8

bad=0
complain() { echo "check_docs: $*" >&2; bad=1; }

# Files of the work tree that git tracks or would track; without a repository (an unpacked crate) all that are there.
documents() {
  git ls-files --cached --others --exclude-standard -- '*.md' 2>/dev/null ||
    find . -name '*.md' -not -path './target/*' -printf '%P\n'
}

while IFS= read -r document; do
  [ -f "$document" ] || continue
  if [ "$document" != models/MODEL_CARD.md ]; then
    while IFS=: read -r line _; do
      complain "$document:$line: longer than 120 characters"
    done < <(grep -nE '^.{121,}' "$document" || true)
  fi
  while IFS= read -r target; do
    case "$target" in *://* | mailto:* | '#'*) continue ;; esac
    [ -e "$(dirname "$document")/${target%%#*}" ] || complain "$document: link to $target, which does not exist"
  done < <(grep -oP '\]\(\K[^)\s]+' "$document" || true)
done < <(documents)

while IFS= read -r step; do
  grep -qE "^## $step " docs/method.md || complain "step $step is cited, and docs/method.md has no such step"
done < <(grep -rhF method.md src shaders tests benches models docs ./*.md | grep -oE '\bM[0-9]+\b' | sort -u)

exit "$bad"
