#!/usr/bin/env bash
# Packs an image tree into record files, without changing the images, into the same files as MXNet's im2rec.py:
#   scripts/prepare_imagenet.sh RAW OUT
# RAW contains ImageNet's archives as they are downloaded, or train/<class>/*.jpg and val/<class>/*.jpg, or train-jpeg
# and val-jpeg, or TFRecords. OUT gets {train,val}.{rec,idx,lst}, classes.txt and, if files were skipped, skipped.txt.
# See prepare_dataset.py, which does it.
set -euo pipefail

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ $# -ne 2 ]; then
  echo "error: usage: scripts/prepare_imagenet.sh RAW OUT" >&2
  exit 2
fi
python=${VIRTUAL_ENV:-$project/.venv}/bin/python
[ -x "$python" ] || python=python3
exec "$python" "$project/scripts/prepare_dataset.py" --order im2rec -- "$1" "$2"
