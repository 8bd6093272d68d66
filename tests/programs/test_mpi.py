"""`--launcher mpi`: mpirun starts the workers and MPI connects them. The rest is as with horovodrun."""

import signal
import sys

import pytest

from helpers.commands import SMALL, assert_user_error, call, succeed
from helpers.processes import assert_nothing_is_left, read_until, worker
from imagenet.common.errors import NON_FINITE_EXIT_CODE
from imagenet.reporting.report_file import read_report

pytestmark = pytest.mark.only_on_cpu('written for CPUs')


ENDLESS = ('--data-backend', 'synthetic', '--num-examples', '64000', '--disp-batches', '5')


IS_BUILT = """
from imagenet.runtime.distributed import load_horovod
print(load_horovod('horovod', 'cpu').mpi_built())
"""


@pytest.fixture(scope='module', autouse=True)
def mpi():
    # In another process, because DALI could not be loaded here afterwards.
    if succeed(sys.executable, '-c', IS_BUILT) == 'False\n':
        pytest.skip('no MPI here: apt-get install openmpi-bin libopenmpi-dev, then scripts/setup.sh')


def command(workspace, *options, launcher='mpi'):
    start = ('./runner', '-n', '2', '--launcher', launcher, '--device', 'cpu')
    return (*start, *SMALL, '--workspace', workspace, *options)


@pytest.fixture
def endless(start, tmp_path):
    """A run that has begun."""
    process = start(*command(tmp_path, *ENDLESS))
    read_until(process, 'epoch 1 step 5/')
    return process


def test_results_are_those_of_horovodrun(small_data, tmp_path):
    options = ('--data-root', small_data, '-e', '2', '--warmup-epochs', '0', '--seed', '7')
    metrics = []
    for launcher in ('mpi', 'horovod'):
        folder = tmp_path / launcher
        assert 'train_val on 2 x 1 cpu' in succeed(*command(folder, *options, launcher=launcher))
        metrics.append(read_report(folder / 'report.json')['metrics'])
    for name in ('train.loss', 'train.top1', 'val.loss', 'val.top1'):
        assert metrics[0][name] == metrics[1][name]


@pytest.mark.parametrize('rank', [0, 1])
def test_killed_worker_ends_the_run(endless, tmp_path, rank):
    worker(tmp_path, rank).kill()
    output, _ = endless.communicate()
    assert endless.returncode == 1
    *before, last = output.splitlines()
    assert last.startswith(f'error: rank {rank} on ')
    assert ' was killed (SIGKILL)' in last
    assert all(line.startswith('epoch 1 step ') for line in before)
    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize(
    ('number', 'code', 'said'), [(signal.SIGTERM, 0, 'stopped by'), (signal.SIGINT, 130, 'interrupted: ')]
)
def test_signals_to_the_launcher(endless, tmp_path, number, code, said):
    endless.send_signal(number)
    output, _ = endless.communicate()
    assert endless.returncode == code
    assert output.splitlines()[-1].startswith(said)
    assert_nothing_is_left(tmp_path)


def test_killed_launcher_leaves_no_process(endless, tmp_path):
    endless.kill()
    endless.wait()
    assert_nothing_is_left(tmp_path)


def test_error_in_a_line(tmp_path):
    """Found before mpirun starts, and by the workers."""
    assert_user_error(call(*command(tmp_path, '--data-root', tmp_path)), 'train.rec')
    data = ('--data-backend', 'synthetic', '--num-examples', '640')
    result = call(*command(tmp_path, *data, '-e', '1', '--lr', '1e30', '--mode', 'train'))
    assert result.returncode == NON_FINITE_EXIT_CODE
    assert 'error: the loss is ' in result.stderr
    assert result.stderr.count('\n') == 1
