"""The launcher and its supervisors: several processes on this machine that start, stop and fail together."""

import signal
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from helpers.commands import PROJECT, SMALL, assert_user_error, call, succeed, training
from helpers.patience import generous, wait_until
from helpers.processes import assert_nothing_is_left, read_until, worker
from imagenet.checkpoints.manifest import read_manifest
from imagenet.common.errors import LOST_PROCESS_EXIT_CODE
from imagenet.reporting.report_file import read_report
from imagenet.runtime import distributed

pytestmark = pytest.mark.usefixtures('device')


# A dead worker ends the run within a few seconds, but a busy machine takes much longer.
SECONDS_TO_END = 60


def command(workspace, *options, processes=2):
    """Return the command for a run with several processes."""
    return ('./runner', '-n', processes, *SMALL, '--workspace', workspace, *options)


def wait_for_a_save(workspace):
    """Wait until a checkpoint is being written."""
    wait_until(lambda: list(workspace.glob('.model_*')))


def wait_for_a_validation(process):
    """Wait until the network is most likely being validated, which takes most of the time here."""
    read_until(process, 'epoch 2/')
    time.sleep(1)


PHASES = {
    'training': (('--mode', 'train'), lambda process, workspace: read_until(process, 'epoch 1 step 2')),
    'validation': ((), lambda process, workspace: wait_for_a_validation(process)),
    'saving': (('--benchmark-iters', '1'), lambda process, workspace: wait_for_a_save(workspace)),
}


@pytest.mark.parametrize('rank', [0, 1])
@pytest.mark.parametrize('phase', PHASES)
@pytest.mark.gpus(2)
def test_killed_worker_ends_the_run(start, small_data, digits_data, tmp_path, phase, rank):
    options, reach = PHASES[phase]
    if phase == 'validation':
        options = ('--data-train', small_data / 'val.rec', '--data-val', digits_data / 'val.rec')
    options = (*options, '--data-root', small_data, '--disp-batches', '2', '--warmup-epochs', '0', '--seed', '1')
    process = start(*command(tmp_path, *options))
    reach(process, tmp_path)
    worker(tmp_path, rank).kill()
    output, _ = process.communicate(timeout=generous(SECONDS_TO_END))
    assert process.returncode == 1
    last = output.splitlines()[-1]
    assert last.startswith(f'error: rank {rank} on localhost was killed (SIGKILL)')
    assert 'Traceback' not in output
    assert_nothing_is_left(tmp_path)
    # The run can be started again with the same number of workers or another one. It resumes if it has saved.
    again = start(*command(tmp_path, *options, processes=1 + rank))
    said = read_until(again, 'epoch ')
    has_saved = (tmp_path / 'model_resume.json').exists()
    assert ('resuming from' in said) == has_saved
    assert has_saved or phase != 'validation'
    again.kill()
    again.wait()
    assert_nothing_is_left(tmp_path)


@pytest.mark.gpus(2)
def test_crash_shows_where_it_happened(start, tmp_path):
    process = start(*command(tmp_path, '--data-backend', 'synthetic', '--num-examples', '64000', '--disp-batches', '2'))
    read_until(process, 'epoch 1 step ')
    worker(tmp_path, 1).send_signal(signal.SIGSEGV)
    output, _ = process.communicate()
    assert process.returncode == 1
    assert 'Fatal Python error: Segmentation fault' in (tmp_path / 'log.rank1.log').read_text()
    assert 'fit.py' in output
    assert output.splitlines()[-1].startswith('error: rank 1 on localhost was ended by SIGSEGV; its output is in ')


@pytest.mark.gpus(2)
def test_stopped_run_goes_on_with_another_number_of_workers(start, small_data, tmp_path):
    """Stopped in the middle of an epoch, it sees the same examples in the same steps if the total batch is the same."""
    options = ('--data-root', small_data, '--seed', '7', '-e', '2', '--warmup-epochs', '0', '--disp-batches', '4')
    succeed('./runner', '-n', '2', *SMALL, *options, '-b', '8', '--workspace', tmp_path / 'whole')
    process = start(*command(tmp_path / 'stopped', *options, '-b', '8'))
    read_until(process, 'epoch 2 step 4/')
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate()
    assert process.returncode == 0
    assert 'stopped by SIGTERM' in output or 'stopped by a signal to another process' in output
    again = succeed('./runner', '-n', '1', *SMALL, *options, '--workspace', tmp_path / 'stopped')
    assert '1 of 2 epochs and ' in again
    whole, stopped = (read_report(tmp_path / name / 'report.json')['metrics'] for name in ('whole', 'stopped'))
    # Batch norm sees other batches and augmentation other random numbers, so the results are close, not identical.
    assert stopped['train.loss'][0] == whole['train.loss'][0]
    assert stopped['train.loss'][1] == pytest.approx(whole['train.loss'][1], rel=0.2)
    assert all(value * 240 == pytest.approx(round(value * 240)) for value in stopped['train.top1'])


def test_other_batch_size_goes_on_after_as_many_examples(start, small_data, tmp_path):
    options = ('--data-root', small_data, '--seed', '7', '-e', '1', '--warmup-epochs', '0', '--disp-batches', '1')
    process = start(*command(tmp_path, *options, '-b', '8', processes=1))
    read_until(process, 'epoch 1 step 10/30')
    process.send_signal(signal.SIGTERM)
    process.communicate()
    done = read_manifest(tmp_path / 'model_resume.json')[0].iteration
    again = succeed('./runner', *SMALL, *options, '--workspace', tmp_path)
    assert f'as many examples are done as in {done // 2} steps of the new batch size' in again
    assert f'epoch 1 step {done // 2 + 1}/15' in again


@pytest.mark.parametrize(
    ('number', 'code', 'said'),
    [
        (signal.SIGUSR1, 0, 'stopped by'),
        (signal.SIGHUP, 0, 'stopped by'),
        (signal.SIGINT, 130, 'interrupted: '),
    ],
)
@pytest.mark.gpus(2)
def test_signals_to_the_launcher(start, tmp_path, number, code, said):
    options = ('--data-backend', 'synthetic', '--num-examples', '64000', '--disp-batches', '5')
    process = start(*command(tmp_path, *options))
    read_until(process, 'epoch 1 step 5/')
    process.send_signal(number)
    output, _ = process.communicate()
    assert process.returncode == code
    assert output.splitlines()[-1].startswith(said)
    assert_nothing_is_left(tmp_path)


@pytest.mark.gpus(2)
def test_second_signal_stops_at_once(start, tmp_path):
    options = ('--data-backend', 'synthetic', '--num-examples', '64000', '--disp-batches', '5')
    process = start(*command(tmp_path, *options))
    read_until(process, 'epoch 1 step 5/')
    # Paused workers cannot react to the first signal.
    for rank in range(2):
        worker(tmp_path, rank).send_signal(signal.SIGSTOP)
    # Signals within half a second count as one request, so a busy machine may need more than two.
    while process.poll() is None:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.8)
    output, _ = process.communicate()
    assert process.returncode == 1
    assert output.splitlines()[-1].startswith('error: stopped immediately')
    assert_nothing_is_left(tmp_path)


@pytest.mark.gpus(2)
@pytest.mark.parametrize('is_stuck', [False, True])
def test_killed_launcher_leaves_no_process(start, tmp_path, is_stuck):
    """Also if horovodrun does not react to signals."""
    options = ('--data-backend', 'synthetic', '--num-examples', '64000', '--disp-batches', '5')
    process = start(*command(tmp_path, *options))
    read_until(process, 'epoch 1 step 5/')
    if is_stuck:
        (horovodrun,) = psutil.Process(process.pid).children()
        horovodrun.suspend()
    process.kill()
    process.wait()
    assert_nothing_is_left(tmp_path)


@pytest.mark.gpus(2)
def test_communication_is_in_log_and_report(small_data, tmp_path):
    output = succeed(*training(small_data, tmp_path, '-n', '2', '-b', '8'))
    shares = read_report(tmp_path / 'report.json')['metrics']['train.comm_share']
    assert len(shares) == 2
    assert all(0 < share < 1 for share in shares)
    assert f'communication {100 * shares[1]:.1f} % of a step' in output


IN_PARALLEL = """
import os, sys
sys.path[:0] = [{project!r}, {tests!r}]
from imagenet.runtime import distributed
from imagenet.runtime.compat import mx
distributed.initialize(kv_store='horovod', device='cpu')
{code}
"""


def in_parallel(tmp_path, processes, code):
    """Run Python code in several processes connected by Horovod; return the completed process."""
    script = tmp_path / 'parallel.py'
    script.write_text(IN_PARALLEL.format(project=str(PROJECT), tests=str(PROJECT / 'tests'), code=code))
    horovodrun = Path(sys.executable).with_name('horovodrun')
    startup = {'PYTHONPATH': str(PROJECT / 'imagenet' / 'runtime' / 'startup')}
    return call(horovodrun, '--gloo', '-np', processes, sys.executable, script, env=startup)


TEN_STEPS = """
import numpy as np
from helpers.networks import make_initialized
from helpers.training import freeze_batch_norm, make_args, make_step
from imagenet.checkpoints.parameters import canonical_arrays
mx.random.seed(3)
np.random.seed(3)
net = make_initialized()
freeze_batch_norm(net)
distributed.broadcast(net.collect_params())
distributed.GRADIENT_GROUPS['cpu'] = {groups}
step = make_step(make_args(batch_size=64, freeze={freeze!r}), net, [mx.cpu()])
random = np.random.RandomState(5)
share = 64 // distributed.size()
own = slice(distributed.rank() * share, (distributed.rank() + 1) * share)
for iteration in range(10):
    images, labels = random.standard_normal((64, 3, 32, 32)).astype('float32'), random.randint(0, 10, 64)
    batch = mx.io.DataBatch(data=[mx.nd.array(images[own])], label=[mx.nd.array(labels[own])], pad=0)
    step([batch], 0.01, 0, iteration)
arrays = {{name: array.asnumpy() for name, array in canonical_arrays(net).items()}}
np.savez({out!r} + f'/{{distributed.size()}}.{{distributed.rank()}}.npz', **arrays)
"""


@pytest.mark.only_on_cpu('written for CPUs')
@pytest.mark.parametrize('freeze', ['none', 'features'])
@pytest.mark.parametrize('groups', distributed.GRADIENT_GROUPS.values())
def test_two_processes_step_as_one_with_the_whole_batch(tmp_path, groups, freeze):
    for processes in (1, 2):
        result = in_parallel(tmp_path, processes, TEN_STEPS.format(out=str(tmp_path), groups=groups, freeze=freeze))
        assert result.returncode == 0, result.stdout + result.stderr
    one, first, second = (np.load(tmp_path / f'{name}.npz') for name in ('1.0', '2.0', '2.1'))
    for name in one.files:
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_allclose(first[name], one[name], atol=1e-5, rtol=1e-5, err_msg=name)


OTHER_START = """
from imagenet.common.errors import UserError
from helpers.networks import make_initialized
from helpers.training import make_args, make_step
from imagenet.checkpoints.manifest import TrainingProgress
from imagenet.checkpoints.training_state import check_ranks_start_equal
net = make_initialized()
distributed.broadcast(net.collect_params())
step = make_step(make_args(), net, [mx.cpu()])
progress = TrainingProgress(seed=1, options={})
check_ranks_start_equal(net, step, progress)
if distributed.rank() == 1:
    net.output.bias.data()[3] += 1e-6
try:
    check_ranks_start_equal(net, step, progress)
except UserError as error:
    print('found:', error)
"""


@pytest.mark.only_on_cpu('written for CPUs')
def test_other_parameters_at_the_start_are_found(tmp_path):
    result = in_parallel(tmp_path, 2, OTHER_START)
    assert result.returncode == 0, result.stdout + result.stderr
    found = [line for line in result.stdout.splitlines() if 'found:' in line]
    assert len(found) == 2
    assert all('output.bias (parameters)' in line and 'on rank 1' in line for line in found)


@pytest.mark.only_on_cpu('written for CPUs')
def test_other_data_or_versions_are_found(tmp_path):
    code = """
from imagenet.common.errors import UserError
for facts in ({'numpy': '1.23.5', '--data-train': 7}, {'numpy': '1.23.5', '--data-train': 7 + distributed.rank()}):
    try:
        distributed.check_ranks_agree(facts, 'use the same')
        print('alike')
    except UserError as error:
        print('found:', error)
"""
    result = in_parallel(tmp_path, 2, code)
    assert result.stdout.count('alike') == 2
    assert result.stdout.count('found: --data-train is 7 on rank 0') == 2
    assert 'and 8 on rank 1' in result.stdout


ENDS_WHILE_A_FILE_IS_WRITTEN = """
import time
from imagenet.common.files import BackgroundWriter
from imagenet.common.program import run_program
from imagenet.runtime import distributed
from imagenet.runtime.compat import mx
def main():
    BackgroundWriter().submit(lambda: (time.sleep(2), open({path!r}, 'w').close()))
    with distributed.lost_process_errors():
        raise mx.base.MXNetError('Horovod has been shut down')
run_program(main)
"""


@pytest.mark.only_on_cpu('needs no device')
def test_rank_that_is_ending_is_not_interrupted(start, tmp_path):
    file = tmp_path / 'file'
    process = start(sys.executable, '-c', ENDS_WHILE_A_FILE_IS_WRITTEN.format(path=str(file)))
    read_until(process, 'error: another rank has ended, so this one stops')
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate()
    assert (process.returncode, output) == (LOST_PROCESS_EXIT_CODE, '')
    assert file.exists()


class TestErrors:
    """Each error is one line, with the rank in front unless all ranks report the same."""

    @pytest.mark.only_on_cpu('written for CPUs')
    def test_horovod_without_mxnet(self, tmp_path):
        broken = tmp_path / 'horovod'
        broken.mkdir()
        (broken / '__init__.py').write_text('')
        result = call(
            './runner',
            '-n',
            '2',
            '--data-backend',
            'synthetic',
            '--device',
            'cpu',
            '--workspace',
            tmp_path / 'run',
            env={'PYTHONPATH': str(tmp_path)},
        )
        assert_user_error(result, 'Horovod for MXNet is not installed', 'scripts/setup.sh')

    @pytest.mark.gpus(2)
    def test_loss_that_is_no_number(self, tmp_path):
        options = ('--data-backend', 'synthetic', '--num-examples', '640', '-l', '1e30', '--warmup-epochs', '0')
        result = call('./runner', '-n', '2', *SMALL, *options, '--workspace', tmp_path)
        assert result.returncode == 3
        assert len(result.stderr.splitlines()) == 1
        assert 'error: the loss is' in result.stderr
