"""The cores that a process uses: as many as its control group allows, and all of them if train.py runs alone."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from helpers.commands import PROJECT
from helpers.processes import read_until
from imagenet.launcher.cores import own_cores

OLD_GROUPS = Path('/sys/fs/cgroup/cpu')


def test_process_in_a_group_with_a_quota():
    """A real control group, like a container's."""
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


@pytest.mark.parametrize(('chosen', 'expected'), [({}, str(len(own_cores(0, 1)))), ({'OMP_NUM_THREADS': '3'}, '3')])
def test_bare_training_has_its_cores(start, monkeypatch, tmp_path, chosen, expected):
    """train.py is as fast without the launcher. The user's thread settings take precedence."""
    command = [sys.executable, 'train.py', '--device', 'cpu', '--data-backend', 'synthetic', '--batch-size', '16']
    command += ['--num-layers', '10', '--image-shape', '3,32,32', '--num-examples', '64000', '--disp-batches', '1']
    for name in [name for name in os.environ if name.startswith(('OMP', 'GLIBC'))]:
        monkeypatch.delenv(name)
    process = start(*command, '--workspace', tmp_path, env=chosen)
    read_until(process, 'epoch 1 step 2/')
    found = psutil.Process(process.pid).environ()
    assert found['OMP_NUM_THREADS'] == expected
    assert found.get('OMP_PROC_BIND') == (None if chosen else 'true')
    assert ('GLIBC_TUNABLES' in found) != bool(chosen)
