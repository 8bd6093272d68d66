"""NVIDIA's driver, GPUs and libraries, as MXNet's wheel for GPUs needs them.

Known without MXNet, which cannot be imported where a library is missing, and which a GPU that its wheel was not built
for only shows in the middle of a run ("no kernel image is available").
"""

import ctypes
import os
from collections import namedtuple
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from imagenet.common.errors import UserError

WHEEL = 'mxnet-cu112'
# Machine code in mxnet-cu112 1.9.1, which has no PTX: a GPU runs what was built for its own major version, up to its
# minor one.
CAPABILITIES = ((5, 0), (6, 0), (7, 0), (8, 0), (8, 6))
WHICH_WHEELS = (
    'mxnet-cu112 1.9.1 is for compute capability 5.0 to 8.9 (Maxwell to Ampere, and Ada) and a driver from 520.61 on, '
    "MXNet of NVIDIA's container (Dockerfile) for 6.0 to 9.0; with others, use --device cpu"
)
# CUDA 11.8's own. Older ones of CUDA 11 run its libraries, but not the PTX that its NVRTC makes of fused operators; see
# "CUDA Compatibility", NVIDIA, limitations of minor version compatibility.
LEAST_DRIVER = (520, 61)
DRIVER_LIBRARY = 'libcuda.so.1'

# What libmxnet.so links and what these open by themselves, each behind those that it needs itself: the library, the
# package in requirements/gpu.txt that has it, and its folder there.
Library = namedtuple('Library', 'name package folder')
LIBRARIES = (
    Library('libcudart.so.11.0', 'nvidia-cuda-runtime-cu11', 'cuda_runtime'),
    Library('libcublasLt.so.11', 'nvidia-cublas-cu11', 'cublas'),
    Library('libcublas.so.11', 'nvidia-cublas-cu11', 'cublas'),
    Library('libnvrtc-builtins.so.11.8', 'nvidia-cuda-nvrtc-cu11', 'cuda_nvrtc'),
    Library('libnvrtc.so.11.2', 'nvidia-cuda-nvrtc-cu11', 'cuda_nvrtc'),
    Library('libcudnn_ops_infer.so.8', 'nvidia-cudnn-cu11', 'cudnn'),
    Library('libcudnn_ops_train.so.8', 'nvidia-cudnn-cu11', 'cudnn'),
    Library('libcudnn_cnn_infer.so.8', 'nvidia-cudnn-cu11', 'cudnn'),
    Library('libcudnn_cnn_train.so.8', 'nvidia-cudnn-cu11', 'cudnn'),
    Library('libcudnn.so.8', 'nvidia-cudnn-cu11', 'cudnn'),
    Library('libcufft.so.10', 'nvidia-cufft-cu11', 'cufft'),
    Library('libcurand.so.10', 'nvidia-curand-cu11', 'curand'),
    Library('libcusolver.so.11', 'nvidia-cusolver-cu11', 'cusolver'),
    Library('libnccl.so.2', 'nvidia-nccl-cu11', 'nccl'),
    Library('libnvToolsExt.so.1', 'nvidia-nvtx-cu11', 'nvtx'),
)

Gpu = namedtuple('Gpu', 'name capability memory')
Driver = namedtuple('Driver', 'version gpus')


def has_wheel():
    """Whether MXNet here is the wheel for GPUs, and not the one for CPUs or a container's."""
    return version_of(WHEEL) is not None


def version_of(package):
    """The version that is installed, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def load_libraries():
    """Loads what MXNet's wheel for GPUs links, so that nobody has to set LD_LIBRARY_PATH.

    Libraries of the system or of a container win where they are.

    Raises:
        UserError: one is missing, or there only in another major version.
    """
    if not has_wheel():
        return
    for library in LIBRARIES:
        if _load(library.name) is not None:
            _load_from_package(library)
    if _load(DRIVER_LIBRARY) is not None:
        raise UserError(
            f"{DRIVER_LIBRARY}, which MXNet for GPUs needs, is missing: install NVIDIA's driver, or where there is no "
            'GPU use an environment of scripts/setup.sh --cpu'
        )


def _load(path):
    """Makes a library's functions known to all that are loaded later; returns an error's text, or None."""
    try:
        ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        return str(error)
    return None


def _load_from_package(library):
    if version_of(library.package) is None:
        reason = f'{library.package} is not installed'
    else:
        folder = metadata.distribution(library.package).locate_file(f'nvidia/{library.folder}/lib')
        reason = _load(Path(folder) / library.name)
    if reason is not None:
        raise UserError(
            f'{library.name}, which MXNet for GPUs needs, is missing ({reason}): run scripts/setup.sh --gpu'
        )


def read_driver():
    """What NVIDIA's driver says: its version, and its GPUs with their compute capability and memory in bytes, if known.

    Raises:
        UserError: there is no driver, or it sees no GPU.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise UserError(f'there is no NVIDIA driver that works ({error}): install one, or use --device cpu') from None
    try:
        version = pynvml.nvmlSystemGetDriverVersion()
        gpus = [_read_gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        raise UserError(f"NVIDIA's driver does not answer ({error}): restart it, or use --device cpu") from None
    finally:
        pynvml.nvmlShutdown()
    if not gpus:
        raise UserError(f"NVIDIA's driver {version} sees no GPU on this machine: use --device cpu")
    return Driver(version, gpus)


def _read_gpu(pynvml, index):
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    capability, memory = pynvml.nvmlDeviceGetCudaComputeCapability(handle), None
    # Of a GPU that is divided, a container may not know.
    with suppress(pynvml.NVMLError):
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle).total
    return Gpu(pynvml.nvmlDeviceGetName(handle), tuple(capability), memory)


def check_supported(driver):
    """Raises `UserError` if MXNet's wheel cannot use this driver or one of its GPUs; a container brings its own."""
    if not has_wheel():
        return
    if tuple(map(int, driver.version.split('.')[:2])) < LEAST_DRIVER:
        raise UserError(f"NVIDIA's driver {driver.version} is too old: {WHICH_WHEELS}")
    others = [gpu for gpu in driver.gpus if not _runs_on(gpu.capability)]
    # Those that the user has hidden may be the others; the driver does not know which these are.
    if others and (len(others) == len(driver.gpus) or 'CUDA_VISIBLE_DEVICES' not in os.environ):
        major, minor = others[0].capability
        raise UserError(f'{others[0].name} has compute capability {major}.{minor}: {WHICH_WHEELS}')


def _runs_on(capability):
    return any(capability[0] == major and capability[1] >= minor for major, minor in CAPABILITIES)
