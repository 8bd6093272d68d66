"""cuda.py: one-line errors about the driver, the GPUs and the libraries. test_cuda_wheels.py tests the wheels."""

import json
import sys
from pathlib import Path

import pytest

from helpers.commands import assert_user_error, call, succeed
from helpers.nvidia_driver import GPU_NAME, make_driver
from imagenet.common.errors import UserError
from imagenet.runtime import cuda, devices
from imagenet.runtime.compat import mx
from imagenet.runtime.devices import check_gpus

SHOW = (
    'import json; from imagenet.runtime import cuda; driver = cuda.read_driver(); '
    'print(json.dumps([driver.version, driver.gpus]))'
)
CHECK = (
    'from imagenet.common.errors import one_line_errors\nfrom imagenet.runtime import cuda\nwith one_line_errors(): {}'
)


@pytest.fixture
def wheel(tmp_path):
    """Environment variables under which MXNet's GPU wheel seems to be installed: Python finds metadata for it."""
    folder = tmp_path / 'packages' / 'mxnet_cu112-1.9.1.dist-info'
    folder.mkdir(parents=True)
    (folder / 'METADATA').write_text('Metadata-Version: 2.1\nName: mxnet-cu112\nVersion: 1.9.1\n')
    return {'PYTHONPATH': str(folder.parent)}


def run(code, *environments):
    env = {name: value for environment in environments for name, value in environment.items()}
    return call(sys.executable, '-c', CHECK.format(code), env=env)


def test_what_the_driver_says(tmp_path):
    shown = succeed(sys.executable, '-c', SHOW, env=make_driver(tmp_path / 'driver', count=2, capability=(8, 0)))
    assert json.loads(shown) == ['535.161.08', [[GPU_NAME, [8, 0], 16 << 30]] * 2]


def test_no_driver():
    if Path('/dev/nvidiactl').exists():
        pytest.skip('this machine has a driver')
    assert_user_error(run('cuda.read_driver()'), 'no working NVIDIA driver', 'use --device cpu')
    with pytest.raises(UserError, match='no working NVIDIA driver'):
        cuda.read_driver()


def test_driver_that_does_not_start(tmp_path):
    assert_user_error(run('cuda.read_driver()', make_driver(tmp_path / 'driver', init=9)), 'no working NVIDIA driver')


def test_driver_without_a_gpu(tmp_path):
    result = run('cuda.read_driver()', make_driver(tmp_path / 'driver', count=0))
    assert_user_error(result, "NVIDIA's driver 535.161.08 finds no GPU", 'use --device cpu')


@pytest.mark.parametrize('capability', [(5, 2), (6, 1), (7, 0), (7, 5), (8, 0), (8, 6), (8, 9)])
def test_supported_gpus(tmp_path, wheel, capability):
    driver = make_driver(tmp_path / 'driver', capability=capability)
    assert run('cuda.check_supported(cuda.read_driver())', driver, wheel).returncode == 0


@pytest.mark.parametrize('capability', [(3, 7), (9, 0), (10, 0), (12, 0)])
def test_other_gpus(tmp_path, wheel, capability):
    driver = make_driver(tmp_path / 'driver', capability=capability)
    check = 'cuda.check_supported(cuda.read_driver())'
    number = '.'.join(map(str, capability))
    result = run(check, driver, wheel)
    assert_user_error(result, f'{GPU_NAME} has compute capability {number}', '5.0 to 8.9', "NVIDIA's container")
    # A container's MXNet supports other GPUs, so nothing is checked without the wheel.
    assert run(check, driver).returncode == 0


def test_old_driver(tmp_path, wheel):
    driver = make_driver(tmp_path / 'driver', version='515.105.01')
    result = run('cuda.check_supported(cuda.read_driver())', driver, wheel)
    least = cuda.LEAST_DRIVER_OF_DALI_2 if cuda.version_of(cuda.DALI_2) else cuda.LEAST_DRIVER
    assert_user_error(result, "NVIDIA's driver 515.105.01 is too old", f'from {least} on')


def test_missing_library(wheel):
    result = run('cuda.load_libraries()', wheel)
    assert_user_error(result, 'libcudart.so.11.0', 'nvidia-cuda-runtime-cu11 is not installed', 'setup.sh --gpu')


def test_library_of_another_major_version(tmp_path, wheel):
    """The package is installed, but contains another major version of the library."""
    folder = tmp_path / 'packages'
    metadata = folder / 'nvidia_cuda_runtime_cu11-12.0.dist-info'
    metadata.mkdir()
    (metadata / 'METADATA').write_text('Metadata-Version: 2.1\nName: nvidia-cuda-runtime-cu11\nVersion: 12.0\n')
    (folder / 'nvidia' / 'cuda_runtime' / 'lib').mkdir(parents=True)
    (folder / 'nvidia' / 'cuda_runtime' / 'lib' / 'libcudart.so.12').touch()
    assert_user_error(run('cuda.load_libraries()', wheel), 'libcudart.so.11.0', 'No such file')


def test_nothing_is_loaded_for_cpus():
    assert run('cuda.load_libraries()').returncode == 0


def test_check_shows_the_driver(tmp_path):
    """The driver and its GPUs are shown even if MXNet supports only CPUs."""
    shown = succeed('./runner', '--check', env=make_driver(tmp_path / 'driver'))
    rows = dict(line.split('  ', 1) for line in shown.splitlines() if '  ' in line)
    assert rows['NVIDIA driver'].strip() == '535.161.08'
    assert rows['GPU 0'].strip() == f'{GPU_NAME}, compute capability 7.0, 16 GiB'
    assert rows['MXNet computes on'].strip() == 'CPUs (for GPUs: scripts/setup.sh --gpu)'
    assert rows['GPUs that MXNet sees'].strip() == '0'


def test_setup_without_a_driver(tmp_path):
    if Path('/dev/nvidiactl').exists():
        pytest.skip('this machine has a driver')
    assert_user_error(call('scripts/setup.sh', '--gpu'), "--gpu: NVIDIA's driver (libcuda.so.1) is missing", '--cpu')
    assert_user_error(call('scripts/setup.sh', '--cuda'), '--cuda: use --cpu, --gpu or --engines')


@pytest.mark.parametrize(
    ('found', 'message'), [(0, 'MXNet finds no GPU here'), (1, 'this takes 2 GPUs, and MXNet finds 1')]
)
def test_more_than_the_gpus_there_are(monkeypatch, found, message):
    """This machine may have neither GPUs nor MXNet for GPUs, so MXNet's answers are replaced."""
    monkeypatch.setattr(mx.runtime.Features, 'is_enabled', lambda _, name: True)
    monkeypatch.setattr(devices, 'count_gpus', lambda: found)
    with pytest.raises(UserError, match=message):
        check_gpus(2)
