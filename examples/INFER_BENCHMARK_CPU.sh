#!/usr/bin/env bash
# Measures inference on the CPU with synthetic data, and writes inference_cpu.json.
# Further options are passed to benchmark.py and runner.
set -euo pipefail
exec "$(dirname "$0")/../benchmark.py" -n 1 -b 1,2,4,8,16,32 -i 20 -e 2 -w 1 --mode val -o inference_cpu.json \
  --device cpu --data-backend synthetic "$@"
