#!/usr/bin/env bash
# Trains ResNet-50 v1.5 for 90 epochs in float16 on 1 GPU. Further options are passed to runner.
set -euo pipefail
exec "$(dirname "$0")/../runner" -n 1 -b 192 --device gpu --dtype float16 "$@"
