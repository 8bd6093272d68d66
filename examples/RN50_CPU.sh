#!/usr/bin/env bash
# Trains ResNet-50 v1.5 on all cores of this machine. Further options are passed to runner.
set -euo pipefail
exec "$(dirname "$0")/../runner" -n 1 -b 32 --device cpu "$@"
