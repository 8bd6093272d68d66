"""What is available on this machine: versions, MXNet's features, Horovod's operations, devices.

python -m imagenet.runtime.system_info      prints it as a table, as does `./runner --check`
"""

import hashlib
import json
import os
import platform
from contextlib import suppress
from pathlib import Path

import psutil
from tabulate import tabulate

from imagenet.common.errors import UserError, one_line_errors
from imagenet.common.options import ArgumentParser
from imagenet.common.virtualenv import PROJECT
from imagenet.runtime import cuda, processor
from imagenet.runtime.compat import load_mxnet, mx
from imagenet.runtime.dali_library import load_dali
from imagenet.runtime.devices import count_gpus
from imagenet.runtime.threads import available_cores

# The packages whose versions affect results or the communication between processes.
PACKAGES = ('mxnet', cuda.WHEEL, 'horovod', 'nvidia-dali-cuda110', 'nvidia-dali-cuda120', 'numpy', 'pillow')
PACKAGES += ('opencv-python-headless', 'nvidia-cublas-cu11', 'nvidia-cudnn-cu11', 'nvidia-nccl-cu11')
PACKAGES += ('onnx', 'onnxruntime', 'openvino')
FEATURES = ('CUDA', 'CUDNN', 'NCCL', 'MKLDNN', 'INT64_TENSOR_SIZE', 'F16C', 'OPENCV', 'JPEG_TURBO')
HOROVOD_OPERATIONS = ('gloo', 'mpi', 'nccl')


def versions():
    """Return the versions of Python and the installed packages, by name, and a hash of this package's code."""
    found = {'Python': platform.python_version()}
    found.update({package: cuda.version_of(package) for package in PACKAGES if cuda.version_of(package)})
    return {**found, 'this package': code_hash()}


def describe_environment(device):
    """Return what a run on a device ('cpu' or 'gpu') computes on and with, by name: the machine, GPUs and versions."""
    driver = find_driver() if device == 'gpu' else None
    gpus = describe_gpus(driver) if isinstance(driver, cuda.Driver) else []
    rows = [('machine', describe_machine()), ('system', platform.platform()), *gpus, *versions().items()]
    return {name: str(value) for name, value in rows}


def code_hash():
    digest = hashlib.sha256()
    for path in [PROJECT / 'runner', *sorted(PROJECT.glob('*.py')), *sorted(PROJECT.glob('imagenet/**/*.py'))]:
        digest.update(str(path.relative_to(PROJECT)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def horovod_operations():
    """Return whether Horovod was built with each operation, by name, or None if it does not work with MXNet."""
    load_mxnet()
    try:
        import horovod.mxnet as horovod
    except ImportError:
        return None
    return {name: bool(getattr(horovod, f'{name}_built')()) for name in HOROVOD_OPERATIONS}


def describe_system(driver):
    """Return rows (what, what was found) about this machine.

    Args:
        driver: a `cuda.Driver`, or the reason why there is none.
    """
    # DALI crashes if it is loaded after Horovod; see dali_library.py.
    dali = _describe_dali()
    features = mx.runtime.Features()
    enabled = [name for name in FEATURES if name in features and features.is_enabled(name)]
    operations = horovod_operations()
    has = ', '.join(name for name, is_built in (operations or {}).items() if is_built)
    threads = os.environ.get('OMP_NUM_THREADS', "MXNet's default")
    return [
        ('machine', describe_machine()),
        *versions().items(),
        ('MXNet was built with', ', '.join(enabled)),
        ('Horovod', f'sends with {has}' if operations else 'missing, or not built for MXNet: run scripts/setup.sh'),
        ('DALI', dali),
        *describe_processor(processor.instruction_set()),
        *describe_gpus(driver),
        ('threads of a process (OMP_NUM_THREADS)', threads),
    ]


def describe_processor(found):
    """Return rows about what MXNet can compute with an `InstructionSet`."""
    return [
        ('CPU instruction set', processor.describe(found)),
        ('bfloat16 on the CPU (--amp)', found.bfloat16 or 'none: needs AVX-512'),
        ('int8 on the CPU (--mode calibrate)', found.int8),
    ]


def describe_gpus(driver):
    """Return rows about the devices that MXNet was built for, NVIDIA's driver, and its GPUs."""
    rows = [('MXNet computes on', _describe_devices())]
    if isinstance(driver, str):
        return [*rows, ('GPUs', driver)]
    rows.append(('NVIDIA driver', driver.version))
    for number, gpu in enumerate(driver.gpus):
        major, minor = gpu.capability
        memory = '' if gpu.memory is None else f', {gpu.memory / 2**30:.0f} GiB'
        rows.append((f'GPU {number}', f'{gpu.name}, compute capability {major}.{minor}{memory}'))
    return [*rows, ('GPUs that MXNet sees', count_gpus())]


def _describe_devices():
    if not mx.runtime.Features().is_enabled('CUDA'):
        return 'CPUs (for GPUs: scripts/setup.sh --gpu)'
    if not cuda.has_wheel():
        return "CPUs and GPUs; see the container's manual"
    capabilities = ', '.join(f'{major}.{minor}' for major, minor in cuda.CAPABILITIES)
    return f'CPUs and GPUs: machine code for compute capability {capabilities}'


def describe_machine():
    """Return processor, cores and memory in one line."""
    model = platform.machine()
    with suppress(OSError, StopIteration):
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
        model = next(line.split(':', 1)[1].strip() for line in lines if line.startswith('model name'))
    memory = psutil.virtual_memory().total / 2**30
    return f'{model}, {available_cores()} cores, {memory:.0f} GiB'


def _describe_dali():
    try:
        load_dali('dali-cpu', 'cpu')
    except UserError as error:
        return str(error)
    return 'works'


def find_driver():
    """Return a `cuda.Driver`, or the reason why there is none."""
    try:
        return cuda.read_driver()
    except UserError as error:
        return str(error)


def main():
    parser = ArgumentParser(description='Print the versions, features and devices that are available on this machine.')
    parser.add_argument('--json', action='store_true', help='print JSON, for programs')
    with one_line_errors():
        driver = find_driver()
        rows = describe_system(driver)
        if parser.parse_args().json:
            print(json.dumps(dict(rows)))
        else:
            print(tabulate(rows, tablefmt='plain', disable_numparse=True))
        if not isinstance(driver, str):
            cuda.check_supported(driver)


if __name__ == '__main__':
    main()
