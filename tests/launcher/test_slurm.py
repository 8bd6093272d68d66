"""slurm.py: tasks started by srun, with the environment that Slurm 22.05 sets."""

import pytest

from imagenet.common.errors import UserError
from imagenet.launcher.slurm import first_host, parse_tasks_per_node, slurm_environment


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
