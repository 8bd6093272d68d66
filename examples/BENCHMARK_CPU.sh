#!/usr/bin/env bash
# Measures training on the CPU with synthetic data, and writes benchmark_cpu.json.
# Further options are passed to benchmark.py and runner.
set -euo pipefail
exec "$(dirname "$0")/../benchmark.py" -n 1 -b 8,16,32 -i 10 -e 2 -w 1 --mode train -o benchmark_cpu.json \
  --device cpu --data-backend synthetic "$@"
