#!/usr/bin/env bash
# Makes .venv with everything this package needs, and builds Horovod for MXNet. It can be run again at any time: it does
# nothing if the environment is complete, and otherwise makes it again.
#   scripts/setup.sh --cpu                for a machine without a GPU
#   scripts/setup.sh --gpu                for NVIDIA GPUs: MXNet's wheel for them, and the CUDA libraries that it links
#   scripts/setup.sh                      for the device of the existing environment (at first: --cpu)
#   scripts/setup.sh --engines            the same, and ONNX Runtime and OpenVINO if they are missing, for --engine
#   PYTHON=python3.10 scripts/setup.sh    chooses the interpreter (default: python3)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

HOROVOD_VERSION=0.28.1
# The major version of CUDA that MXNet's wheel for GPUs was built with.
CUDA_MAJOR=11
VENV=.venv
STAMP=$VENV/.setup-complete
DEVICE=$VENV/.setup-device
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

die() {
  echo "setup: $*" >&2
  exit 2
}

say() { echo "setup: $*"; }

# Print cpu or gpu: the option, or the device of the existing environment.
choose_device() {
  case "${1:-}" in
    --cpu | --gpu) echo "${1#--}" ;;
    '' | --engines) cat $DEVICE 2>/dev/null || echo cpu ;;
    *) die "$1: use --cpu, --gpu or --engines" ;;
  esac
}

requirements() {
  [ "$device" = gpu ] && echo requirements/gpu.txt || echo requirements/cpu.txt
}

check_tools() {
  local tool
  for tool in g++ make; do
    command -v "$tool" >/dev/null || die "$tool is missing: apt-get install g++ make"
  done
}

# Print the path of the requested interpreter.
find_python() {
  scripts/find_python.sh "$1" ||
    die "$1 does not start: apt-get install python3 python3-venv, or PYTHON=/path/to/python for another one"
}

check_python() {
  "$1" - <<'PY' || exit 2
import sys
found = '.'.join(map(str, sys.version_info[:3]))
if not (3, 8) <= sys.version_info[:2] <= (3, 13):
    sys.exit(
        f'setup: {sys.executable} is Python {found}; must be 3.8 to 3.13, for which every package has a wheel: '
        'PYTHON=python3.13 scripts/setup.sh'
    )
try:
    import ensurepip, venv
except ImportError:
    sys.exit(f'setup: this Python {found} cannot make environments: apt-get install python3-venv')
PY
}

check_driver() {
  [ "$device" = cpu ] || "$1" -c 'import ctypes; ctypes.CDLL("libcuda.so.1")' 2>/dev/null ||
    die "--gpu: NVIDIA's driver (libcuda.so.1) is missing: install it first, or use --cpu"
}

# Print a hash of everything the environment is made from. If it has not changed, the environment is kept.
fingerprint() {
  {
    "$1" -c 'import sys; print(sys.version)'
    requirements
    cat requirements/*.txt scripts/setup.sh
  } | sha256sum | cut -d' ' -f1
}

# Without PYTHON=, an existing environment of any version is kept.
is_whole() {
  local wanted=$VENV/bin/python
  [ -z "${PYTHON:-}" ] || wanted=$python
  [ -x $VENV/bin/python ] && [ -f $STAMP ] && [ "$(cat $STAMP)" = "$(fingerprint "$wanted")" ] &&
    starts "$(operations)" 2>/dev/null
}

# Import everything, and check that Horovod was built with these operations.
starts() {
  $VENV/bin/python - "$1" <<'PY'
import sys
from imagenet.runtime.compat import load_mxnet
load_mxnet()
import nvidia.dali.fn, horovod.mxnet, cv2, matplotlib, tqdm
missing = [name for name in sys.argv[1].split() if not getattr(horovod.mxnet, f'{name}_built')()]
sys.exit(f'Horovod was built without {missing}' if missing else 0)
PY
}

# With MPI, Horovod needs Open MPI on every host: HOROVOD_WITHOUT_MPI=1 leaves it out. The launcher does not know the
# variables of other kinds of MPI.
has_mpi() {
  [ -z "${HOROVOD_WITHOUT_MPI:-}" ] && command -v mpicxx >/dev/null &&
    [[ $(mpirun --version 2>/dev/null) == *'Open MPI'* ]]
}

# Print what Horovod can be built with here. MPI or a CUDA toolkit may be installed after the environment was made.
operations() {
  echo gloo
  if has_mpi; then echo mpi; fi
  if [ "$device" = gpu ] && [ -n "$(find_cuda)" ]; then echo nccl; fi
}

# Print the folder of a CUDA toolkit that fits MXNet's wheel for GPUs and this compiler, or nothing.
find_cuda() {
  local nvcc
  for nvcc in "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" /usr/local/cuda-"$CUDA_MAJOR"*/bin/nvcc "$(command -v nvcc)"; do
    # No pipe into `grep -q`: it stops reading at the match, and nvcc could end by SIGPIPE.
    if [ -x "$nvcc" ] && [[ $("$nvcc" --version) == *"release $CUDA_MAJOR."* ]] &&
      "$nvcc" -x cu -c /dev/null -o /dev/null 2>/dev/null; then
      dirname "$(dirname "$nvcc")"
      return
    fi
  done
}

horovod_wheel_folder() {
  local compiler python mxnet suffix
  compiler=$(g++ -dumpfullversion -dumpversion)
  python=$($VENV/bin/python -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
  mxnet=$(sed -n 's/^mxnet==//p' requirements/cpu.txt)
  suffix=$(operations | tr '\n' '-')
  echo "${XDG_CACHE_HOME:-$HOME/.cache}/imagenet-mxnet/horovod-$HOROVOD_VERSION-interface-names-mxnet-$mxnet-$python-g++-$compiler-${suffix%-}"
}

# Horovod 0.28.1 forgets the network interface for one of its connections and takes the one that the host's own name
# resolves to, which on Debian is the loopback: several hosts then never find each other.
mend_interface() {
  local file=$1/horovod/common/gloo/gloo_context.cc
  sed -i '/::InitializeForProcessSet/,$ s/iface = gloo_iface_;/iface = global_context.gloo_iface_;/' "$file"
  grep -q 'iface = global_context.gloo_iface_;' "$file"
}

# Horovod 0.28.1 logs the name of a broadcast after queueing it. The other thread may have finished the broadcast by then
# and freed the name: a segmentation fault, once in many runs. A copy of the names lives long enough.
mend_names() {
  local file=$1/horovod/mxnet/mpi_ops.cc
  sed -i -e 's/ops_param->op_names/op_names/' \
    -e '/auto process_set_id = ops_param->process_set_id;/a\  auto op_names = ops_param->op_names;' "$file"
  [ "$(grep -c 'auto op_names = ops_param->op_names;' "$file")" = 2 ]
}

# g++ 14 refuses to assign to a constant even in a function that nobody calls.
mend_span() {
  local file=$1/third_party/flatbuffers/include/flatbuffers/stl_emulation.h
  sed -i 's/^  const size_type count_;/  size_type count_;/' "$file"
  grep -q '^  size_type count_;' "$file"
}

# Set the environment variables of Horovod's build. The argument is a folder for the files that it needs.
prepare_horovod() {
  local folder=$1 cuda=$2 nccl
  export PATH="$PWD/$VENV/bin:$PATH" PYTHONPATH="$PWD/imagenet/runtime/startup"
  export HOROVOD_WITH_MXNET=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_PYTORCH=1
  export HOROVOD_WITH_GLOO=1
  if has_mpi; then export HOROVOD_WITH_MPI=1; else export HOROVOD_WITHOUT_MPI=1; fi
  # libmxnet.so is built with the old C++ ABI, but Horovod's build assumes the new one. The last option wins.
  # Horovod and Gloo use these headers without including them; since g++ 13, other headers no longer do.
  export CXXFLAGS='-D_GLIBCXX_USE_CXX11_ABI=0 -include string -include cstdint -include stdexcept'
  if [ -n "$cuda" ]; then
    nccl=$(python -c 'import nvidia.nccl; print(nvidia.nccl.__path__[0])') || return
    # The wheel contains the library only under its versioned name, which a linker does not look for.
    mkdir "$folder/nccl" && ln -s "$nccl/lib/libnccl.so.2" "$folder/nccl/libnccl.so" || return
    export HOROVOD_GPU_OPERATIONS=NCCL HOROVOD_CUDA_HOME="$cuda"
    export HOROVOD_NCCL_INCLUDE="$nccl/include" HOROVOD_NCCL_LIB="$folder/nccl" HOROVOD_NCCL_LINK=SHARED
  elif [ "$device" = gpu ]; then
    # Without a toolkit, Horovod cannot be built for the MXNet with CUDA. For CPUs, both wheels are the same to it.
    pip install --no-deps --target "$folder/mxnet" "$(grep '^mxnet==' requirements/cpu.txt)" || return
    PYTHONPATH="$folder/mxnet:$PYTHONPATH"
  fi
}

# pip's own wheel cache ignores these variables, so it is not used.
build_horovod() {
  local folder=$1 cuda=$2 log sources
  log=$(mktemp --suffix=-horovod.log)
  say "building Horovod $HOROVOD_VERSION for MXNet, once for this user and these versions (2 to 4 minutes)"
  $VENV/bin/pip install --quiet -r requirements/build.txt
  mkdir -p "$folder.partial"
  sources=$(mktemp -d --suffix=-horovod)
  (
    prepare_horovod "$sources" "$cuda" &&
      pip download --no-cache-dir --no-deps --no-binary :all: --no-build-isolation --dest "$sources" \
        "horovod==$HOROVOD_VERSION" &&
      tar -xf "$sources"/horovod-*.tar.gz -C "$sources" &&
      mend_interface "$sources/horovod-$HOROVOD_VERSION" &&
      mend_names "$sources/horovod-$HOROVOD_VERSION" &&
      mend_span "$sources/horovod-$HOROVOD_VERSION" &&
      pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir "$folder.partial" \
        "$sources/horovod-$HOROVOD_VERSION"
  ) >"$log" 2>&1 || die "Horovod did not build; its log is $log"
  rm -rf "$folder" "$log" "$sources"
  mv "$folder.partial" "$folder"
}

make_environment() {
  local wheels cuda=
  rm -rf $VENV
  say "making $VENV with $("$1" --version)"
  "$1" -m venv $VENV
  # Written first, so that an interrupted setup continues for the same device.
  echo "$device" >$DEVICE
  say "installing the pinned packages"
  # --no-deps: the files name the indirect ones, too, except what only other devices or other uses need.
  $VENV/bin/pip install --quiet --no-deps -r "$(requirements)" -r requirements/dev.txt
  if [ "$device" = gpu ]; then
    cuda=$(find_cuda)
    [ -n "$cuda" ] || say "no CUDA $CUDA_MAJOR toolkit whose nvcc works with this g++ is here: Horovod is built with" \
      'Gloo and without NCCL, for CPUs alone; several GPUs of this machine train with --kv-store device'
  fi
  wheels=$(horovod_wheel_folder)
  compgen -G "$wheels/horovod-*.whl" >/dev/null || build_horovod "$wheels" "$cuda"
  $VENV/bin/pip install --quiet --no-deps "$wheels"/horovod-*.whl
  fingerprint $VENV/bin/python >$STAMP
  if ! starts "$(operations)"; then
    # The wheel may be of a library that was replaced.
    rm -rf "$wheels"
    die 'the new environment does not work: see the output above; the next setup builds Horovod again'
  fi
  say "done"
}

# What --engine needs is in a new environment, but a package may have been removed since.
add_engines() {
  $VENV/bin/python -c 'import onnx, onnxruntime, openvino' 2>/dev/null && return
  say "installing the engines"
  $VENV/bin/pip install --quiet --no-deps -r requirements/engines.txt
}

device=$(choose_device "$@")
check_tools
python=$(find_python "${PYTHON:-python3}")
check_python "$python"
check_driver "$python"
# Two setups at the same time would disturb each other. The second one waits, and finds the work done.
exec 9>.setup.lock
flock 9
is_whole || make_environment "$python"
[ "${1:-}" != --engines ] || add_engines
