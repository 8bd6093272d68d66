#!/usr/bin/env bash
# Measures inference in float16 on one GPU, and writes inference_fp16.json.
# Further options are passed to benchmark.py and runner.
set -euo pipefail
exec "$(dirname "$0")/../benchmark.py" -n 1 -b 1,2,4,8,16,32,64,128,192,256,512 -i 200 -e 3 -w 1 --mode val -o inference_fp16.json \
  --device gpu --dtype float16 "$@"
