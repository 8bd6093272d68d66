"""slurm.py: tasks that srun has started, in the environment that Slurm 22.05 gives them."""

import os
import subprocess

import pytest
from conftest import SMALL, assert_user_error, call

from imagenet.common.errors import UserError
from imagenet.launcher.slurm import first_host, parse_tasks_per_node, slurm_environment
from imagenet.reporting.report_file import read_report


def task(rank, node, local_rank, tasks='2,1', size=3, job=41):
    return {
        'SLURM_PROCID': str(rank),
        'SLURM_STEP_NUM_TASKS': str(size),
        'SLURM_NODEID': str(node),
        'SLURM_LOCALID': str(local_rank),
        'SLURM_STEP_TASKS_PER_NODE': tasks,
        'SLURM_STEP_NODELIST': 'localhost',
        'SLURM_JOB_ID': str(job),
        'SLURM_STEP_ID': '1',
    }


def test_tasks_of_nodes():
    assert parse_tasks_per_node('8(x2),4') == [8, 8, 4]
    assert parse_tasks_per_node('1') == [1]
    with pytest.raises(ValueError):
        parse_tasks_per_node('eight')


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('node07', 'node07'),
        ('node[01-04,07],other', 'node01'),
        ('gpu-a[2,5]', 'gpu-a2'),
        ('a.example.org,b', 'a.example.org'),
        ('n[1-2]', 'n1'),
    ],
)
def test_first_host(text, expected):
    assert first_host(text) == expected


def test_places_of_tasks():
    """Three nodes with two, one and two tasks."""
    places = []
    for rank, (node, local_rank) in enumerate([(0, 0), (0, 1), (1, 0), (2, 0), (2, 1)]):
        size, found = slurm_environment(task(rank, node, local_rank, '2,1,2', 5))
        assert size == 5
        places.append([int(found[f'HOROVOD_{name}']) for name in ('RANK', 'LOCAL_SIZE', 'CROSS_RANK', 'CROSS_SIZE')])
    assert places == [[0, 2, 0, 3], [1, 2, 0, 2], [2, 1, 1, 3], [3, 2, 2, 3], [4, 2, 1, 2]]


def test_number_of_tasks_is_srun_s():
    with pytest.raises(UserError, match='-n 8 with --launcher slurm: srun has started 3 tasks'):
        slurm_environment(task(0, 0, 0), ngpus=8)


def test_without_srun():
    assert_user_error(call('./runner', '--launcher', 'slurm'), '--launcher slurm: SLURM_PROCID is not set', 'srun')


def test_tasks_train_together(start, small_data, tmp_path):
    """What srun does: each task is this command, with its own environment."""
    command = ['./runner', '--launcher', 'slurm', *SMALL, '-b', '8', '--data-root', small_data, '-e', '1']
    command += ['--workspace', tmp_path]
    job = os.getpid() % 10000
    tasks = []
    for rank in range(2):
        tasks.append(start(*command, env=task(rank, 0, rank, '2', 2, job), stderr=subprocess.PIPE))
    outputs = [process.communicate() for process in tasks]
    assert [process.returncode for process in tasks] == [0, 0], outputs
    assert 'train_val on 2 x 1 cpu' in outputs[0][0]
    assert outputs[1][0] == ''
    assert read_report(tmp_path / 'report.json')['ngpus'] == 2
