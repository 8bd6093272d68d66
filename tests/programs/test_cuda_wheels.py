"""MXNet's wheel for GPUs and the CUDA libraries that it links (3.7 GB), on a machine without a GPU.

Not part of `make test`; run `make test-cuda-wheels`.
"""

import shutil
import subprocess

import pytest

from helpers.commands import PROJECT, assert_user_error
from helpers.nvidia_driver import GPU_NAME, make_driver
from imagenet.reporting.report_file import read_report

# No time limit, because 3.7 GB are downloaded.
pytestmark = [pytest.mark.cuda_wheels, pytest.mark.timeout(0)]
IGNORED = ('.venv', '.pythons', '.git', 'demo', '.setup.lock', '__pycache__')
# The demo's network.
NETWORK = ('--image-shape', '3,32,32', '--num-layers', '18', '--num-classes', '10', '-b', '64')


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    """A copy of the project with an environment for GPUs."""
    folder = tmp_path_factory.mktemp('gpu') / 'project'
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns(*IGNORED))
    setup = call(folder, 'scripts/setup.sh', '--gpu', env=make_driver(folder / 'driver'))
    assert setup.returncode == 0, setup.stderr
    return folder


@pytest.fixture
def driver(tmp_path):
    return make_driver(tmp_path / 'driver')


def call(project, *command, env):
    environment = {'PATH': '/usr/local/bin:/usr/bin:/bin', 'HOME': str(project.parent), **env}
    return subprocess.run(list(map(str, command)), cwd=project, env=environment, capture_output=True, text=True)


def succeed(*command, env):
    result = call(*command, env=env)
    assert result.returncode == 0, f'{command}\n{result.stdout}\n{result.stderr}'
    return result.stdout


def test_mxnet_is_the_one_for_gpus(project, driver):
    code = (
        'from imagenet.runtime.compat import mx; '
        'print(mx.__version__, mx.runtime.Features().is_enabled("CUDA"), mx.context.num_gpus())'
    )
    assert succeed(project, '.venv/bin/python', '-c', code, env=driver).split() == ['1.9.1', 'True', '0']


LATE = """
import ctypes
from imagenet.runtime.compat import mx
for name in ('libcudnn_ops_train.so.8', 'libcudnn_cnn_train.so.8'):
    ctypes.CDLL(name)
nvrtc, program = ctypes.CDLL('libnvrtc.so.11.2'), ctypes.c_void_p()
assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), b'__global__ void f() {}', b'f.cu', 0, None, None) == 0
assert nvrtc.nvrtcCompileProgram(program, 0, None) == 0
"""


def test_libraries_that_are_opened_late(project, driver):
    """MXNet opens parts of cuDNN in the first backward pass, and NVRTC when it compiles fused operators."""
    succeed(project, '.venv/bin/python', '-c', LATE, env=driver)


def test_trains_on_the_cpu(project, driver, tmp_path):
    options = ('--data-backend', 'synthetic', '--num-examples', '640', '-e', '1', '--workspace', tmp_path)
    succeed(project, './runner', '--device', 'cpu', '--mode', 'train', *NETWORK, *options, env=driver)
    assert read_report(tmp_path / 'report.json')['metrics']['train.loss'][0] > 0


def test_two_workers_on_the_cpu(project, driver, tmp_path):
    options = ('--data-backend', 'synthetic', '--num-examples', '640', '-e', '1', '--workspace', tmp_path)
    succeed(project, './runner', '-n', '2', '--device', 'cpu', '--mode', 'train', *NETWORK, *options, env=driver)
    assert read_report(tmp_path / 'report.json')['ngpus'] == 2


def test_check(project, driver):
    shown = succeed(project, './runner', '--check', env=driver)
    for text in (
        'mxnet-cu112',
        '1.9.1',
        f'{GPU_NAME}, compute capability 7.0, 16 GiB',
        '5.0, 6.0, 7.0, 8.0, 8.6',
        'NCCL',
    ):
        assert text in shown


def test_check_of_a_gpu_that_is_too_new(project, tmp_path):
    result = call(project, './runner', '--check', env=make_driver(tmp_path / 'driver', capability=(9, 0)))
    assert_user_error(result, 'has compute capability 9.0', 'mxnet-cu112 1.9.1 is for compute capability 5.0 to 8.9')
    assert 'compute capability 9.0' in result.stdout


def train(project, *options, env):
    return call(project, './runner', '--device', 'gpu', '--data-backend', 'synthetic', *options, env=env)


def test_no_driver(project):
    assert_user_error(train(project, env={}), 'libcuda.so.1, which MXNet for GPUs needs, is missing', 'install')


def test_driver_without_a_gpu(project, tmp_path):
    result = train(project, env=make_driver(tmp_path / 'driver', count=0))
    assert_user_error(result, "NVIDIA's driver 535.161.08 finds no GPU")


def test_driver_that_is_too_old(project, tmp_path):
    assert_user_error(train(project, env=make_driver(tmp_path / 'driver', version='515.105')), '515.105 is too old')


def test_more_than_the_gpus_there_are(project, driver, tmp_path):
    assert_user_error(train(project, '-n', '2', '--workspace', tmp_path, env=driver), 'MXNet finds no GPU here')


@pytest.mark.parametrize('name', ['libcudnn.so.8', 'libnccl.so.2'])
def test_missing_library(project, driver, name):
    (library,) = (project / '.venv').glob(f'lib/python*/site-packages/nvidia/*/lib/{name}')
    hidden = library.with_name(f'{name}.hidden')
    library.rename(hidden)
    try:
        assert_user_error(call(project, './runner', '--check', env=driver), f'{name}, which MXNet for GPUs needs')
    finally:
        hidden.rename(library)


def test_setup_finds_its_work_done(project, driver):
    """Without an option, the environment also remains one for GPUs."""
    for options in ((), ('--gpu',)):
        assert succeed(project, 'scripts/setup.sh', *options, env=driver) == ''
