#!/usr/bin/env bash
# Trains ResNet-50 v1.5 for 250 epochs with mixup in float16 on 8 GPUs. Further options are passed to runner.
set -euo pipefail
exec "$(dirname "$0")/../runner" @"$(dirname "$0")/../recipes/resnet50_250e.args" -n 8 -b 192 --device gpu --dtype float16 "$@"
