"""runner under a real Slurm: srun tasks, a requeued job, and tasks that end early."""

import signal

import psutil
import pytest

from helpers.commands import SMALL, assert_user_error, call
from helpers.patience import wait_until
from helpers.processes import assert_nothing_is_left, read_until, worker
from helpers.slurm import missing_programs, running_slurm
from imagenet.reporting.report_file import read_report

# All these tests share one Slurm.
pytestmark = pytest.mark.xdist_group('slurm')
SYNTHETIC = ('--data-backend', 'synthetic', '--num-examples', '64000', '--num-classes', '10', '--disp-batches', '5')


@pytest.fixture(scope='module')
def slurm(tmp_path_factory):
    """The environment variables with which Slurm's commands find a running Slurm."""
    if missing_programs():
        pytest.skip(f'Slurm is not installed ({", ".join(missing_programs())}): apt-get install slurm-wlm munge')
    with running_slurm(tmp_path_factory.mktemp('slurm')) as variables:
        yield variables


def srun(workspace, *options, tasks=2):
    command = ('srun', '-n', tasks, '--kill-on-bad-exit=1', './runner', '--launcher', 'slurm', *SMALL)
    return (*command, '-b', '8', '--workspace', workspace, *options)


def test_tasks_train_together(slurm, small_data, tmp_path):
    result = call(*srun(tmp_path, '--data-root', small_data, '-e', '1'), env=slurm)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count('train_val on 2 x 1 cpu') == 1
    assert read_report(tmp_path / 'report.json')['ngpus'] == 2


def test_one_task(slurm, small_data, tmp_path):
    options = ('--data-root', small_data, '-e', '1', '--benchmark-iters', '2')
    assert 'train_val on 1 x 1 cpu' in call(*srun(tmp_path, *options, tasks=1), env=slurm).stdout


def test_number_of_tasks_contradicts(slurm, tmp_path):
    result = call(*srun(tmp_path, *SYNTHETIC, '-n', '3'), env=slurm)
    # The first task that ends makes srun terminate the other one, which may not have found the error yet.
    assert result.returncode in (2, 128 + signal.SIGTERM)
    assert '-n 3 with --launcher slurm: srun has started 2 tasks' in result.stderr


def test_requeued_job_resumes(slurm, tmp_path):
    """On Slurm's signal before the time limit, the run saves. The job then requeues itself, and the run resumes."""
    output, workspace = tmp_path / 'output', tmp_path / 'run'
    size = ('--nodes=1', '--ntasks-per-node=2', '--cpus-per-task=1', '--gpus-per-node=0')
    submit = ('sbatch', '--parsable', *size, f'--output={output}', '--open-mode=append')
    options = (*SMALL, '-b', '8', *SYNTHETIC)
    environment = {**slurm, 'WORKSPACE': str(workspace)}
    job = call(*submit, 'examples/slurm_multinode.sub', *options, env=environment).stdout.strip()
    wait_until(lambda: output.exists() and ' step 5/' in output.read_text())
    call('scancel', '--signal=USR1', job, env=slurm)
    wait_until(lambda: 'resuming from' in output.read_text())
    text = output.read_text()
    assert 'stopped by' in text
    assert f'resuming from {workspace / "model_resume.json"}: 0 of 90 epochs and ' in text
    assert 'Restarts=1' in call('scontrol', 'show', 'job', job, env=slurm).stdout
    call('scancel', job, env=slurm)
    assert_nothing_is_left(workspace)


def test_cancelled_job_saves_before_it_ends(start, slurm, tmp_path):
    """scancel sends SIGTERM to every task, and waits before it kills them."""
    process = start(*srun(tmp_path, *SYNTHETIC), env=slurm)
    read_until(process, 'epoch 1 step 5/')
    job = psutil.Process(worker(tmp_path, 0).pid).environ()['SLURM_JOB_ID']
    call('scancel', job, env=slurm)
    output, _ = process.communicate()
    assert 'stopped by SIGTERM' in output
    assert (tmp_path / 'model_resume.json').exists()
    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize('rank', [0, 1])
def test_killed_task_ends_the_step(start, slurm, tmp_path, rank):
    process = start(*srun(tmp_path, *SYNTHETIC), env=slurm)
    read_until(process, 'epoch 1 step 5/')
    worker(tmp_path, rank).kill()
    process.communicate()
    assert process.returncode != 0
    assert_nothing_is_left(tmp_path)


def test_without_srun():
    assert_user_error(call('./runner', '--launcher', 'slurm'), '--launcher slurm: SLURM_PROCID is not set', 'srun')
