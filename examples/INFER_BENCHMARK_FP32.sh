#!/usr/bin/env bash
# Measures inference in float32 on one GPU, and writes inference_fp32.json.
# Further options are passed to benchmark.py and runner.
set -euo pipefail
exec "$(dirname "$0")/../benchmark.py" -n 1 -b 1,2,4,8,16,32,64,128 -i 200 -e 3 -w 1 --mode val -o inference_fp32.json \
  --device gpu --dtype float32 "$@"
