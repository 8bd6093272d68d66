#!/usr/bin/env bash
# Trains, validates and runs a classifier of handwritten digits, using only the environment: scripts/demo.sh
# All files are written to demo/, or to the folder that DEMO= names. DATA_BACKEND=mxnet or dali-cpu chooses the data
# backend. Further options are passed to the training run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

demo=${DEMO:-demo}
raw=$demo/raw
data=$demo/digits
run=$demo/run
digits=(@recipes/digits.args --device cpu --data-root "$data" -b 64 ${DATA_BACKEND:+--data-backend "$DATA_BACKEND"})

if [ ! -d "$data" ]; then
  echo "== preparing 5000 handwritten digits in $data"
  .venv/bin/python scripts/prepare_digits.py "$raw"
  scripts/prepare_imagenet.sh "$raw" "$data"
fi

# Every demo starts a new run.
rm -rf "$run"
echo "== training a ResNet-10 for 6 epochs"
./runner "${digits[@]}" --seed 1 --workspace "$run" "$@"

echo "== validating the saved checkpoint"
./runner "${digits[@]}" -e 1 --mode val --load "$run/model_best.params" --workspace "$run/validation"

echo "== converting it to int8"
./runner "${digits[@]}" -e 1 --mode calibrate --load "$run/model_best.params" --workspace "$run/calibration"

images=("$raw"/val/7_seven/*.jpg)
image=${images[0]}
echo "== classifying $image in int8"
./runner "${digits[@]}" -e 1 --mode pred --load "$run/model_best-int8" --data-pred "$image"

.venv/bin/python report.py plot "$run/report.json" -o "$run/curves.png"
cat <<EOF
== done
report      $run/report.json
checkpoint  $run/model_best.params
int8        $run/model_best-int8
curves      $run/curves.png
EOF
