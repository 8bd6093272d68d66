#!/usr/bin/env bash
# Trains, validates and applies a classifier of handwritten digits, from nothing but the environment: scripts/demo.sh
# Everything it makes is in demo/, or in the folder that DEMO= names. DATA_BACKEND=mxnet or dali-cpu chooses what reads
# the data. Further options go to the training run.
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

# Every demo starts a run of its own.
rm -rf "$run"
echo "== training a ResNet-18 for 6 epochs"
./runner "${digits[@]}" --seed 1 --workspace "$run" "$@"

echo "== validating the saved checkpoint"
./runner "${digits[@]}" -e 1 --mode val --load "$run/model_best.params" --workspace "$run/validation"

echo "== making an int8 network of it"
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
