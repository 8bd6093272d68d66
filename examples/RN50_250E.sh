#!/usr/bin/env bash
# The recipe of 250 epochs on 8 GPUs, with mixup. Further options go to runner.
set -euo pipefail
exec "$(dirname "$0")/../runner" -n 8 -b 192 -e 250 --mixup 0.2 --device gpu --dtype float16 "$@"
