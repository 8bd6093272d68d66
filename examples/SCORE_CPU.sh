#!/usr/bin/env bash
# Validates a checkpoint on the CPU: examples/SCORE_CPU.sh CHECKPOINT [options of runner].
set -euo pipefail
if [ $# -lt 1 ]; then
  echo "usage: $0 CHECKPOINT [options of runner]" >&2
  exit 2
fi
checkpoint=$1
shift
exec "$(dirname "$0")/../runner" -n 1 -b 32 --device cpu --mode val --load "$checkpoint" "$@"
