#!/usr/bin/env bash
# The recipe of 90 epochs on 8 GPUs. Further options go to runner.
set -euo pipefail
exec "$(dirname "$0")/../runner" @"$(dirname "$0")/../recipes/resnet50_90e.args" -n 8 -b 192 --device gpu --dtype float16 "$@"
