#!/usr/bin/env bash
# Validates a checkpoint in float16: examples/SCORE_FP16.sh PREFIX EPOCH [options of runner].
# It loads this package's PREFIX_EPOCH.params, or MXNet's pair PREFIX-symbol.json and PREFIX-EPOCH.params.
set -euo pipefail
if [ $# -lt 2 ]; then
  echo "usage: $0 PREFIX EPOCH [options of runner]" >&2
  exit 2
fi
epoch=$(printf %04d "$((10#$2))")
checkpoint=$1_$epoch.params
[ -e "$checkpoint" ] || [ ! -e "$1-$epoch.params" ] || checkpoint=$1-$epoch.params
shift 2
exec "$(dirname "$0")/../runner" -n 1 -b 192 --device gpu --dtype float16 --mode val --load "$checkpoint" "$@"
