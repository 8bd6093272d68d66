"""scripts/average_checkpoints.py: networks that training saved become one, which validates like any other."""

import sys

import numpy as np
import pytest

from helpers.commands import assert_user_error, call, call_here, succeed, succeed_here, training
from imagenet.architectures.identification import identify
from imagenet.checkpoints.description import read_description
from imagenet.checkpoints.parameters import read_arrays, write_arrays
from imagenet.reporting.report_file import read_report

AVERAGE = (sys.executable, 'scripts/average_checkpoints.py')


@pytest.fixture(scope='module')
def networks(trained, small_data, tmp_path_factory):
    """Two networks that were trained from the same one with different seeds."""
    paths = []
    for seed in ('1', '2'):
        workspace = tmp_path_factory.mktemp(f'seed{seed}')
        options = ('--load', trained / 'model_best.params', '-l', '0.05', '--seed', seed)
        succeed_here(*training(small_data, workspace, *options))
        paths.append(workspace / 'model_best.params')
    return paths


def validate(load, data, workspace):
    succeed_here('./runner', '--mode', 'val', '--load', load, '--data-root', data, '--workspace', workspace, '-b', '16')
    return read_report(workspace / 'report.json')['metrics']['val.loss'][0]


def test_average_validates(networks, small_data, tmp_path):
    output = tmp_path / 'average.params'
    assert succeed(*AVERAGE, *networks, '-o', output) == f'wrote {output}, the average of 2 files\n'
    assert read_description(output, identify).known == read_description(networks[0], identify).known
    first, second, found = (read_arrays(path) for path in (*networks, output))
    for name, array in found.items():
        mean = (first[name].asnumpy().astype(np.float64) + second[name].asnumpy()) / 2
        np.testing.assert_array_equal(array.asnumpy(), mean.astype(np.float32), err_msg=name)
    assert np.abs(first['output.weight'].asnumpy() - second['output.weight'].asnumpy()).max() > 1e-3
    losses = [validate(path, small_data, tmp_path / path.parent.name) for path in (*networks, output)]
    assert losses[2] < max(losses[:2])


def test_bad_input(networks, tmp_path):
    first, output = networks[0], tmp_path / 'average.params'
    command = (*AVERAGE, '-o', output, first)
    assert_user_error(call(*command), f'{first}: an average needs at least 2 files')
    assert_user_error(call_here(*AVERAGE, '-o', output), 'required: FILE.params')
    assert_user_error(call_here(*AVERAGE, first, first), 'required: -o/--output')
    assert_user_error(call_here(*command, tmp_path / 'none.params'), 'none.params: cannot read this file')
    assert_user_error(call_here(*command, 'README.md'), 'README.md: not an MXNet parameter file')
    damaged = tmp_path / 'damaged.params'
    write_arrays(damaged, {**read_arrays(first), 'output.bias': read_arrays(first)['output.bias'] / 0})
    assert_user_error(call_here(*command, damaged), 'damaged.params: output.bias has NaN or infinite values')
    other = tmp_path / 'other.params'
    write_arrays(other, read_arrays(first), {**read_description(first, identify).known, 'arch': 'resnetv1'})
    assert_user_error(call_here(*command, other), f'other.params: of another network than {first}: --arch resnetv1')
    assert_user_error(call_here(*AVERAGE, first, first, '-o', tmp_path / 'net.json'), 'must be a name that ends in')
    assert_user_error(call_here(*AVERAGE, first, first, '-o', tmp_path / 'none' / 'net.params'), 'no such folder')
    assert_user_error(call_here(*AVERAGE, first, first, '-o', tmp_path / 'n\udce9t.params'), 'not valid UTF-8')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['damaged.params', 'other.params']
    before = first.read_bytes()
    assert_user_error(call_here(*AVERAGE, first, first, '-o', first), f'{first}: this file exists', '-o')
    assert first.read_bytes() == before
