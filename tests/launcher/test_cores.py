"""cores.py: which cores a process may use."""

import os

import pytest

from imagenet.launcher.cores import cpu_quota, own_cores


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ('groups', 'expected'),
    [
        ({}, None),
        ({'cpu.max': 'max 100000'}, None),
        ({'cpu.max': '150000 100000'}, 1.5),
        ({'a/b/cpu.max': 'max 100000', 'a/cpu.max': '400000 100000', 'cpu.max': '800000 100000'}, 4),
        ({'a/b/cpu.max': '50000 100000', 'a/cpu.max': '400000 100000'}, 0.5),
    ],
)
def test_quota_of_control_groups_of_version_2(tmp_path, groups, expected):
    write(tmp_path / 'membership', '0::/a/b\n')
    for name, text in groups.items():
        write(tmp_path / 'root' / name, f'{text}\n')
    assert cpu_quota(tmp_path / 'membership', tmp_path / 'root') == expected


def test_quota_of_control_groups_of_version_1(tmp_path):
    write(tmp_path / 'membership', '4:memory:/other\n3:cpu,cpuacct:/a\n')
    for folder, quota in (('a', '300000'), ('', '-1')):
        write(tmp_path / 'root' / 'cpu,cpuacct' / folder / 'cpu.cfs_quota_us', f'{quota}\n')
        write(tmp_path / 'root' / 'cpu,cpuacct' / folder / 'cpu.cfs_period_us', '100000\n')
    assert cpu_quota(tmp_path / 'membership', tmp_path / 'root') == 3


def test_processes_share_the_cores():
    cores = sorted(os.sched_getaffinity(0))
    shares = [own_cores(rank, len(cores)) for rank in range(len(cores))]
    assert sum(shares, []) == cores
    # If there are more processes than cores, each process has one core.
    assert own_cores(len(cores), 2 * len(cores) + 1) == [cores[0]]


def test_cores_that_slurm_has_shared_out(monkeypatch):
    cores = sorted(os.sched_getaffinity(0))
    monkeypatch.setenv('SLURM_CPUS_ON_NODE', str(4 * len(cores)))
    assert own_cores(1, 4) == cores
