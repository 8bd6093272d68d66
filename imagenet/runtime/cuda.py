"""NVIDIA's driver, GPUs and libraries, as MXNet's wheel for GPUs needs them.

The checks here do not need MXNet. It cannot be imported if a library is missing, and a GPU that its wheel was not built
for only fails in the middle of a run ("no kernel image is available").
"""

import ctypes
import os
from collections import namedtuple
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from imagenet.common.errors import UserError

WHEEL = 'mxnet-cu112'
# Compute capabilities of the machine code in mxnet-cu112 1.9.1. The wheel contains no PTX, so a GPU only runs code that
# was built for its own major version and for a minor version up to its own.
CAPABILITIES = ((5, 0), (6, 0), (7, 0), (8, 0), (8, 6))
WHICH_WHEELS = (
    'mxnet-cu112 1.9.1 is for compute capability 5.0 to 8.9 (Maxwell to Ampere, and Ada) and '
    "a driver from {driver} on, MXNet of NVIDIA's container (Dockerfile) for 6.0 to 9.0; with others, use --device cpu"
)
# The driver of CUDA 11.8. Older CUDA 11 drivers run its libraries, but not the PTX that its NVRTC compiles for fused
# operators; see NVIDIA's "CUDA Compatibility", limitations of minor version compatibility.
LEAST_DRIVER = '520.61'
# DALI 2 was built with CUDA 12.
DALI_2, LEAST_DRIVER_OF_DALI_2 = 'nvidia-dali-cuda120', '525.60'
DRIVER_LIBRARY = 'libcuda.so.1'

# The libraries that libmxnet.so links, and the ones that these open at run time. Each comes after its own dependencies.
# Fields: the library, the package in requirements/gpu.txt that contains it, and its folder in that package.
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
    """Return whether the installed MXNet is the wheel for GPUs, not the wheel for CPUs or a container's build."""
    return version_of(WHEEL) is not None


def version_of(package):
    """Return the installed version of a package, or None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def load_libraries():
    """Load the libraries that MXNet's wheel for GPUs links, so that nobody has to set LD_LIBRARY_PATH.

    Libraries of the system or of a container take precedence.

    Raises:
        UserError: a library is missing, or only installed in another major version.
    """
    if not has_wheel():
        return
    for library in LIBRARIES:
        if _load(library.name) is not None:
            _load_from_package(library)
    if _load(DRIVER_LIBRARY) is not None:
        raise UserError(
            f"{DRIVER_LIBRARY}, which MXNet for GPUs needs, is missing: install NVIDIA's driver, or, without a GPU, "
            'use an environment made by scripts/setup.sh --cpu'
        )


def _load(path):
    """Load a library and make its functions visible to all libraries loaded later. Return an error's text, or None."""
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
    """Return NVIDIA's `Driver`: its version, and its GPUs with their compute capability and, if known, memory in bytes.

    Raises:
        UserError: there is no working driver, or it finds no GPU.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise UserError(f'no working NVIDIA driver ({error}): install one, or use --device cpu') from None
    try:
        version = pynvml.nvmlSystemGetDriverVersion()
        gpus = [_read_gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        raise UserError(f"NVIDIA's driver does not respond ({error}): restart it, or use --device cpu") from None
    finally:
        pynvml.nvmlShutdown()
    if not gpus:
        raise UserError(f"NVIDIA's driver {version} finds no GPU on this machine: use --device cpu")
    return Driver(version, gpus)


def _read_gpu(pynvml, index):
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    capability, memory = pynvml.nvmlDeviceGetCudaComputeCapability(handle), None
    # For a partitioned GPU, a container may not know the memory.
    with suppress(pynvml.NVMLError):
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle).total
    return Gpu(pynvml.nvmlDeviceGetName(handle), tuple(capability), memory)


def check_supported(driver):
    """Raise `UserError` if MXNet's wheel cannot use this driver or one of its GPUs. A container's MXNet passes."""
    if not has_wheel():
        return
    least_driver = LEAST_DRIVER_OF_DALI_2 if version_of(DALI_2) else LEAST_DRIVER
    which_wheels = WHICH_WHEELS.format(driver=least_driver)
    if _as_numbers(driver.version) < _as_numbers(least_driver):
        raise UserError(f"NVIDIA's driver {driver.version} is too old: {which_wheels}")
    others = [gpu for gpu in driver.gpus if not _runs_on(gpu.capability)]
    # The user may have hidden the unsupported GPUs; the driver does not know which ones are hidden.
    if others and (len(others) == len(driver.gpus) or 'CUDA_VISIBLE_DEVICES' not in os.environ):
        major, minor = others[0].capability
        raise UserError(f'{others[0].name} has compute capability {major}.{minor}: {which_wheels}')


def _as_numbers(version):
    return tuple(map(int, version.split('.')[:2]))


def _runs_on(capability):
    return any(capability[0] == major and capability[1] >= minor for major, minor in CAPABILITIES)
