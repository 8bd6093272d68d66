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
  # git still knows files that were deleted.
  git ls-files -z --cached --others --exclude-standard |
    tar --create --null --files-from - --ignore-failed-read --warning=none | tar --extract --directory "$1"
}

versions=("$@")
[ $# -gt 0 ] || versions=(3.8 3.11 3.13)
results=()
num_run=0
failed=0
for version in "${versions[@]}"; do
  if ! python=$(scripts/find_python.sh "python$version"); then
    results+=("Python $version: not here")
    continue
  fi
  echo "== Python $version"
  copy_checkout "$FOLDER/$version" || exit
  num_run=$((num_run + 1))
  # What this make was told, and an environment that is active, must not choose another interpreter.
  if env -u MAKEFLAGS -u MAKEOVERRIDES -u VIRTUAL_ENV make --directory "$FOLDER/$version" test PYTHON="$python"; then
    results+=("Python $version: passed")
  else
    results+=("Python $version: FAILED")
    failed=1
  fi
done
printf '%s\n' "${results[@]}"
[ $num_run -gt 0 ] || failed=1
exit $failed
