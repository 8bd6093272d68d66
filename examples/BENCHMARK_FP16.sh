#!/usr/bin/env bash
# Measures training and validation in float16 on 1, 4 and 8 GPUs, and writes benchmark_fp16.json.
# Further options are passed to benchmark.py and runner.
set -euo pipefail
exec "$(dirname "$0")/../benchmark.py" -n 1,4,8 -b 64,128,192,256 -i 100 -e 2 -w 1 --mode train_val -o benchmark_fp16.json \
  --device gpu --dtype float16 "$@"
