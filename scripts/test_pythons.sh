#!/usr/bin/env bash
# Runs the whole suite with the oldest, the usual and the newest Python, each in a copy of this checkout that keeps its
# environment for the next time. Says which interpreters this machine does not have.
#   scripts/test_pythons.sh               3.8, 3.11 and 3.13
#   scripts/test_pythons.sh 3.10 3.12     these
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

FOLDER=.pythons

# Copy what git knows or would add, and leave the environment of the copy alone.
copy_checkout() {
  mkdir -p "$1"
  find "$1" -mindepth 1 -maxdepth 1 ! -name .venv -exec rm -rf {} +
  git ls-files -z --cached --others --exclude-standard | xargs -0 ls -d 2>/dev/null |
    tar --create --files-from - | tar --extract --directory "$1"
}

versions=("$@")
[ $# -gt 0 ] || versions=(3.8 3.11 3.13)
results=()
failed=0
for version in "${versions[@]}"; do
  if ! python=$(scripts/find_python.sh "python$version"); then
    results+=("Python $version: not here")
    continue
  fi
  echo "== Python $version"
  copy_checkout "$FOLDER/$version"
  if PYTHON=$python make --directory "$FOLDER/$version" test; then
    results+=("Python $version: passed")
  else
    results+=("Python $version: FAILED")
    failed=1
  fi
done
printf '%s\n' "${results[@]}"
exit $failed
