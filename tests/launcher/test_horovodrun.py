"""horovodrun.py: how it explains the end of a run from what the workers reported."""

import json

import pytest

from imagenet.common.errors import LOST_PROCESS_EXIT_CODE
from imagenet.launcher.horovodrun import WorkerOutput, explain_failure
from imagenet.launcher.supervisor import ENDED, STARTED

HOSTS = {0: 'alpha', 1: 'beta'}


@pytest.fixture
def output(tmp_path):
    """The output of two workers that have started, on two hosts."""
    output = WorkerOutput(tmp_path / 'log.log')
    for rank, host in HOSTS.items():
        say(output, rank, f'{STARTED}{json.dumps({"rank": rank, "host": host, "pid": 1})}')
    return output


def say(output, rank, text):
    output._take(f'[{rank}]<stderr>:{text}', '\n', 'stderr')


def end(output, rank, status, lines=()):
    ended = {'rank': rank, 'host': HOSTS[rank], 'status': status, 'log': None, 'lines': list(lines), 'time': rank}
    say(output, rank, ENDED + json.dumps(ended))


def explained(output, capsys):
    """Return the exit code and the lines on stderr."""
    code = explain_failure(output, [])
    return code, capsys.readouterr().err.splitlines()


def test_host_that_never_reported_an_end(output, capsys):
    end(output, 0, LOST_PROCESS_EXIT_CODE)
    code, (line,) = explained(output, capsys)
    assert code == 1
    assert line.startswith('error: lost the connection to rank 1 on beta: check this host and its network')


def test_library_error_of_rank_0(output, capsys):
    say(output, 0, 'error: out of memory')
    end(output, 0, 1)
    end(output, 1, LOST_PROCESS_EXIT_CODE)
    assert explained(output, capsys) == (1, ['error: out of memory'])


def test_library_error_of_another_rank(output, capsys):
    say(output, 0, 'error: another rank has ended, so this one stops')
    end(output, 0, LOST_PROCESS_EXIT_CODE)
    end(output, 1, 1, ['error: out of memory'])
    assert explained(output, capsys) == (1, ['[rank 1] error: out of memory'])


@pytest.mark.parametrize(
    'line',
    [
        '[2026-11-28 20:00:00.   123: E gloo] Connection closed by peer',
        '[beta:13582] Read -1, expected 9619408, errno = 3',
        'Killed',
    ],
)
def test_lines_about_dead_workers_are_not_shown(output, capsys, line):
    say(output, 0, line)
    end(output, 0, LOST_PROCESS_EXIT_CODE)
    end(output, 1, 2, ['error: the loss is nan'])
    assert explained(output, capsys)[1] == ['[rank 1] error: the loss is nan']


def test_crash_without_a_line(output, capsys):
    say(output, 0, 'error: another rank has ended, so this one stops')
    end(output, 0, LOST_PROCESS_EXIT_CODE)
    end(output, 1, 1, ['Traceback'])
    code, lines = explained(output, capsys)
    assert lines[0] == '[rank 1] Traceback'
    assert lines[-1].startswith('error: rank 1 on beta ended with exit code 1')


@pytest.mark.parametrize('fraction', ['123456', ' 41155', '    7'])
def test_log_of_horovod_is_not_shown(output, capsys, fraction):
    say(output, 0, f'[2026-11-27 21:05:50.{fraction}: E /horovod/operations.cc:697] [0]: Connection reset by peer')
    assert capsys.readouterr() == ('', '')


def test_worker_that_mpirun_interrupts(output, capsys):
    """The line is shown only if the user interrupted the run."""
    for has_stop_signal, shown in ((False, ''), (True, 'interrupted: no checkpoint was saved yet\n')):
        output.has_stop_signal = has_stop_signal
        output._take('[1,0]<stdout>:interrupted: no checkpoint was saved yet', '\n', 'stdout')
        assert capsys.readouterr().out == shown
