"""cores.py: which cores a process may use."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from conftest import PROJECT
from processes import read_until

from imagenet.launcher.cores import cpu_quota, own_cores

OLD_GROUPS = Path('/sys/fs/cgroup/cpu')


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


def test_process_in_a_group_with_a_quota():
    """A real one, as a container has it."""
    group = OLD_GROUPS / f'imagenet-test-{os.getpid()}'
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f'control groups are not permitted here: {error}')
    try:
        (group / 'cpu.cfs_quota_us').write_text('100000')
        ask = 'from imagenet.launcher.cores import own_cores; print(own_cores(0, 1))'
        join = f'echo $$ > {group}/tasks; exec {sys.executable} -c "{ask}"'
        output = subprocess.check_output(['sh', '-c', join], cwd=PROJECT, text=True)
        assert output.strip() == f'[{min(os.sched_getaffinity(0))}]'
    finally:
        group.rmdir()


def test_processes_share_the_cores():
    cores = sorted(os.sched_getaffinity(0))
    shares = [own_cores(rank, len(cores)) for rank in range(len(cores))]
    assert sum(shares, []) == cores
    # More processes than cores: each has one.
    assert own_cores(len(cores), 2 * len(cores) + 1) == [cores[0]]


def test_cores_that_slurm_has_shared_out(monkeypatch):
    cores = sorted(os.sched_getaffinity(0))
    monkeypatch.setenv('SLURM_CPUS_ON_NODE', str(4 * len(cores)))
    assert own_cores(1, 4) == cores


@pytest.mark.parametrize(('chosen', 'expected'), [({}, str(len(own_cores(0, 1)))), ({'OMP_NUM_THREADS': '3'}, '3')])
def test_bare_training_has_its_cores(start, monkeypatch, tmp_path, chosen, expected):
    """As fast without the launcher; what the user says about threads wins."""
    command = [sys.executable, 'train.py', '--device', 'cpu', '--data-backend', 'synthetic', '--batch-size', '16']
    command += ['--num-layers', '18', '--image-shape', '3,32,32', '--num-examples', '64000', '--disp-batches', '1']
    for name in [name for name in os.environ if name.startswith(('OMP', 'GLIBC'))]:
        monkeypatch.delenv(name)
    process = start(*command, '--workspace', tmp_path, env=chosen)
    read_until(process, 'epoch 1 step 2/')
    found = psutil.Process(process.pid).environ()
    assert found['OMP_NUM_THREADS'] == expected
    assert found.get('OMP_PROC_BIND') == (None if chosen else 'true')
    assert ('GLIBC_TUNABLES' in found) != bool(chosen)
