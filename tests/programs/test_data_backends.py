"""Choosing the backend that reads the data, and using DALI together with Horovod."""

import pytest

from helpers.commands import SMALL, assert_user_error, call, succeed


def test_dali_gpu_without_a_gpu(small_data):
    result = call('./runner', *SMALL, '--data-root', small_data, '--data-backend', 'dali-gpu')
    assert_user_error(result, '--data-backend dali-gpu', 'use --data-backend dali-cpu')


@pytest.fixture
def environment_without_dali(tmp_path):
    """Environment variables that hide DALI: an empty `nvidia` package comes first on Python's path."""
    (tmp_path / 'nvidia').mkdir()
    (tmp_path / 'nvidia' / '__init__.py').touch()
    return {'PYTHONPATH': str(tmp_path)}


def test_without_dali(small_data, tmp_path, environment_without_dali):
    command = ['./runner', *SMALL, '--data-root', small_data, '-e', '1', '--workspace', tmp_path / 'run']
    result = call(*command, '--data-backend', 'dali-cpu', env=environment_without_dali)
    assert_user_error(result, '--data-backend dali-cpu: DALI is not installed', 'use --data-backend mxnet')
    output = succeed(*command, env=environment_without_dali)
    assert output.count('DALI is not installed: using --data-backend mxnet') == 1


def test_two_processes_with_horovod(small_data, trained, tmp_path):
    """Horovod and DALI work in one process, whether each process validates its share or everything."""
    command = ['./runner', '-n', '2', *SMALL, '--data-root', small_data, '--mode', 'val', '--data-backend', 'dali-cpu']
    command += ['--load', trained / 'model_best.params', '--workspace', tmp_path]
    alone = succeed('./runner', *command[3:])
    expected = alone.split('top-1 ')[1].split(',')[0]
    for options in ((), ('--dali-separ-val',)):
        assert f'top-1 {expected},' in succeed(*command, *options)
