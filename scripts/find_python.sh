#!/usr/bin/env bash
# Prints the path of an interpreter such as python3.10, or fails if there is none that starts. pyenv's shims do not start
# a version that is installed but not selected.
set -uo pipefail

starts() { "$1" -c '' 2>/dev/null; }

if starts "$1"; then
  command -v "$1"
elif version=$(pyenv whence "$1" 2>/dev/null | tail -n 1) && [ -n "$version" ]; then
  PYENV_VERSION=$version pyenv which "$1"
else
  exit 1
fi
