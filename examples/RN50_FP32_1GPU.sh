#!/usr/bin/env bash
# Trains ResNet-50 v1.5 for 90 epochs in float32 on 1 GPU. Further options are passed to runner.
set -euo pipefail
exec "$(dirname "$0")/../runner" -n 1 -b 96 --device gpu --dtype float32 "$@"
