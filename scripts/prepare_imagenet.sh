#!/usr/bin/env bash
# Packs an image tree into record files, with MXNet's im2rec.py and without changing the images:
#   scripts/prepare_imagenet.sh RAW OUT
# RAW contains train/<class>/*.jpg and val/<class>/*.jpg, or train-jpeg and val-jpeg. OUT gets
# {train,val}.{rec,idx,lst} and classes.txt. The work is done in .OUT.partial, which becomes OUT when it is complete.
set -euo pipefail

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# im2rec.py imports MXNet directly; see imagenet/runtime/startup/sitecustomize.py.
export PYTHONPATH=$project/imagenet/runtime/startup:$project${PYTHONPATH:+:$PYTHONPATH}

die() {
  echo "error: $*" >&2
  exit 2
}

[ $# -eq 2 ] || die "usage: scripts/prepare_imagenet.sh RAW OUT"
raw=$1
out=${2%/}
partial=$(dirname "$out")/.$(basename "$out").partial

python=${VIRTUAL_ENV:-$project/.venv}/bin/python
[ -x "$python" ] || python=python3
im2rec=$("$python" -c 'import os; from imagenet.runtime.compat import mx; print(os.path.dirname(mx.__file__))' 2>/dev/null)/tools/im2rec.py ||
  die "$python cannot import MXNet: run scripts/setup.sh"

[ -d "$raw" ] || die "$raw: no such folder"
for suffix in "" -jpeg; do
  [ -d "$raw/train$suffix" ] && [ -d "$raw/val$suffix" ] && break
done
[ -d "$raw/train$suffix" ] && [ -d "$raw/val$suffix" ] ||
  die "$raw: must contain the folders train and val, or train-jpeg and val-jpeg, with a folder per class in each"
[ ! -e "$out" ] || rmdir "$out" 2>/dev/null || die "$out: exists and is not empty; remove it, or name another folder"

rm -rf "$partial"
mkdir -p "$partial" 2>/dev/null || die "$partial: cannot create this folder"
trap 'rm -rf "$partial"' EXIT

log=$partial/im2rec.log
for split in train val; do
  images=$raw/$split$suffix
  order=--no-shuffle
  [ $split = val ] || order=
  echo "listing $images"
  "$python" "$im2rec" --list --recursive $order "$partial/$split" "$images" >"$log" 2>&1 ||
    die "im2rec.py could not list $images: $(tail -n 1 "$log")"
  [ -s "$partial/$split.lst" ] || die "$images: no .jpg, .jpeg or .png image in its folders"
done
# Check this before spending hours on packing.
"$python" -m imagenet.datasets.splits classes "$partial" "$raw"
for split in train val; do
  echo "packing $(wc -l <"$partial/$split.lst") images of $raw/$split$suffix"
  "$python" "$im2rec" --pass-through --num-thread "$(nproc)" "$partial/$split" "$raw/$split$suffix" >"$log" 2>&1 ||
    die "im2rec.py could not pack $raw/$split$suffix: $(tail -n 1 "$log")"
done
"$python" -m imagenet.datasets.splits records "$partial" "$raw"
rm "$log"
mv "$partial" "$out"
echo "$out: $(wc -l <"$out/train.lst") training and $(wc -l <"$out/val.lst") validation images, $(wc -l <"$out/classes.txt") classes"
