"""Standard output and standard error that go away: a training run continues with its log, others end quietly."""

import subprocess
import sys

import pytest

from helpers.commands import PROJECT, SMALL
from imagenet.reporting.report_file import read_report

SYNTHETIC = ('--device', 'cpu', '--data-backend', 'synthetic', '--num-examples', '64', '--num-classes', '10')
# How an output is lost, in the words of a shell, and what a log says about it. `true` is a reader that is gone.
LOST = {
    '>&-': 'standard output cannot be written: it is closed',
    '>/dev/full': 'standard output cannot be written: No space left on device',
    '| true': 'standard output cannot be written: Broken pipe',
    '2>&-': None,
    '>&- 2>&-': 'standard output cannot be written: it is closed',
}


def shell(command, how):
    """Run a command in a shell with its output lost; return the completed process with the command's exit code."""
    script = f'"$@" {how}; exit "${{PIPESTATUS[0]}}"'
    command = ['bash', '-c', script, 'bash', *map(str, command)]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)


@pytest.mark.parametrize(('processes', 'how'), [*((1, how) for how in LOST), (2, '>/dev/full'), (2, '>&- 2>&-')])
def test_training_continues_with_its_log(tmp_path, processes, how):
    command = ['./runner', '-n', processes, *SMALL, *SYNTHETIC, '-e', '1', '--disp-batches', '1']
    result = shell([*command, '--workspace', tmp_path], how)
    assert (result.returncode, result.stderr) == (0, '')
    log = (tmp_path / 'log.log').read_text()
    assert 'epoch 1/1 | train: ' in log
    if LOST[how] is not None:
        assert log.count(f'{LOST[how]}; this log continues\n') == 1
    assert read_report(tmp_path / 'report.json')['metrics']['val.top1']


@pytest.mark.parametrize('how', ['>/dev/full', '| true'])
def test_validation_continues_with_its_report(trained, small_data, tmp_path, how):
    command = ['./runner', *SMALL, '--device', 'cpu', '--mode', 'val', '--load', trained / 'model_best.params']
    result = shell([*command, '--data-root', small_data, '--workspace', tmp_path], how)
    assert (result.returncode, result.stderr) == (0, '')
    assert read_report(tmp_path / 'report.json')['metrics']['val.top1']


FULL = 'error: standard output: cannot be written (No space left on device)\n'
ENDS = {'| true': (141, ''), '>/dev/full': (2, FULL), '>&-': (0, '')}


@pytest.mark.parametrize('how', ENDS)
@pytest.mark.parametrize(
    'command',
    [
        ('./report.py', 'show', '{report}'),
        ('./report.py', 'check', '{report}', 'val.top1>=0'),
        ('./runner', '--dry-run', '--device', 'cpu'),
        ('scripts/check_dataset.py', '{data}'),
        ('./benchmark.py', '-b', '4', '--dry-run'),
    ],
    ids=['show', 'check', 'dry run', 'check_dataset', 'benchmark'],
)
def test_other_programs_end_quietly(saved, small_data, command, how):
    result = shell([part.format(report=saved, data=small_data) for part in command], how)
    if how == '| true' and result.returncode == 0:
        pytest.skip('the program wrote everything before the reader was gone')
    assert (result.returncode, result.stderr) == ENDS[how]


@pytest.mark.parametrize('how', ENDS)
def test_prediction(digits_tree, trained, tmp_path, how):
    """Without -o, its product is its output; with -o, it is a file."""
    command = ['./runner', *SMALL, '--device', 'cpu', '--mode', 'pred', '--load', trained / 'model_best.params']
    command += ['--data-pred', digits_tree / 'val' / '0_zero']
    result = shell(command, how)
    assert (result.returncode, result.stderr) == ENDS[how]
    result = shell([*command, '-o', tmp_path / 'found.csv'], how)
    assert (result.returncode, result.stderr) == (0, '')
    assert len((tmp_path / 'found.csv').read_text().splitlines()) == 101


USES_DESCRIPTORS = """
import os
from imagenet.common.program import start_program
start_program()
assert open(os.devnull).fileno() > 2
os.fstat(1)
"""


def test_no_file_gets_the_number_of_a_closed_output():
    """A library that writes to descriptor 1 would otherwise write into the log."""
    assert shell([sys.executable, '-c', USES_DESCRIPTORS], '>&- 2>&- <&-').returncode == 0
