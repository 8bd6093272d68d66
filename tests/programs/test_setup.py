"""scripts/setup.sh and compat.py: installing the environment and importing MXNet."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from helpers.commands import PROJECT, assert_user_error, call, succeed


@pytest.mark.parametrize('options', [(), ('--engines',)])
def test_second_setup_changes_nothing(options):
    stamp = PROJECT / '.venv' / '.setup-complete'
    before = stamp.stat().st_mtime_ns
    assert succeed('scripts/setup.sh', *options, env={'PYTHON': ''}) == ''
    assert stamp.stat().st_mtime_ns == before


def copy_project(folder):
    """Copy the scripts to a project without an environment; return the path of setup.sh."""
    shutil.copytree(PROJECT / 'scripts', folder / 'scripts')
    return folder / 'scripts' / 'setup.sh'


def test_missing_compiler(tmp_path):
    script = copy_project(tmp_path)
    tools = tmp_path / 'bin'
    tools.mkdir()
    for name in ('bash', 'dirname', 'env', 'make'):
        (tools / name).symlink_to(shutil.which(name))
    result = call('bash', script, env={'PATH': str(tools), 'PYTHON': sys.executable})
    assert_user_error(result, 'g++ is missing: apt-get install g++ make')


def test_missing_python(tmp_path):
    result = call(copy_project(tmp_path), env={'PYTHON': 'python9.9'})
    assert_user_error(result, 'python9.9 does not start')


def test_wrong_python(tmp_path):
    """An interpreter that reports an unsupported version."""
    fake = tmp_path / 'python'
    fake.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "$(printf "import sys; sys.version_info=(3, 6, 9)\\n%s" "$(cat)")"\n'
    )
    fake.chmod(0o755)
    result = call(copy_project(tmp_path), env={'PYTHON': str(fake)}, stdin=subprocess.DEVNULL)
    assert_user_error(result, 'is Python 3.6.9; must be 3.8 to 3.13')


def test_numpy_has_its_old_names_and_mxnet_runs():
    program = (
        'import sys, numpy; from imagenet.runtime.compat import mx; assert "mxnet" not in sys.modules; mx.nd; '
        'assert numpy.object is object; x = mx.nd.ones(3); x.attach_grad(); mx.autograd.set_recording(True); '
        'y = (x * x).sum(); y.backward(); print(x.grad.asnumpy().tolist())'
    )
    assert succeed(sys.executable, '-W', 'error', '-c', program) == '[2.0, 2.0, 2.0]\n'


def test_environment_without_mxnet(tmp_path):
    """With -I and -S, Python finds only the standard library and the paths given here."""
    numpy_folder = str(next(iter(np.__path__)))
    (tmp_path / 'numpy').symlink_to(numpy_folder)
    libraries = f'{numpy_folder}.libs'
    (tmp_path / 'numpy.libs').symlink_to(libraries)
    program = f'import sys; sys.path[:0] = [{str(PROJECT)!r}, {str(tmp_path)!r}]\n'
    program += 'from imagenet.common.errors import one_line_errors\n'
    program += 'from imagenet.runtime.compat import load_mxnet\n'
    program += 'with one_line_errors(): load_mxnet()'
    assert_user_error(call(sys.executable, '-I', '-S', '-c', program), 'has no mxnet', 'run scripts/setup.sh')


def test_horovod_is_built_for_mxnet_abi():
    """libmxnet.so uses the old C++ ABI; a Horovod with the new one reads MXNet's structures at the wrong offsets."""
    startup = {'PYTHONPATH': str(PROJECT / 'imagenet' / 'runtime' / 'startup')}
    program = 'import glob, horovod; print(*glob.glob(horovod.__path__[0] + "/mxnet/*.so"))'
    library = succeed(sys.executable, '-c', program, env=startup).split()[0]
    symbols = succeed('nm', '-DC', library)
    assert 'std::string' in symbols
    assert '__cxx11::basic_string' not in symbols


def test_processes_keep_to_cores_of_their_own():
    """This holds even if there are more processes than cores, and after OpenMP has bound the importing thread."""
    cores = sorted(os.sched_getaffinity(0))
    program = (
        'from imagenet.runtime.compat import mx; from imagenet.runtime import threads; '
        'print(threads.OWN_CORES, threads.available_cores())'
    )
    bound = {'OMP_PROC_BIND': 'true', 'OMP_NUM_THREADS': str(len(cores))}
    alone = succeed(sys.executable, '-c', program, env=bound)
    assert alone == f'{cores} {len(cores)}\n'
    size = 2 * len(cores)
    seen = []
    for rank in range(size):
        launched = {'HOROVOD_LOCAL_RANK': str(rank), 'HOROVOD_LOCAL_SIZE': str(size)}
        seen.append(succeed(sys.executable, '-c', program, env={**bound, **launched}))
    assert sorted(seen) == sorted(f'[{core}] 1\n' for core in cores * 2)
