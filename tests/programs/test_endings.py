"""However a program ends, it ends soon, with one line and an exit code: errors and Ctrl-C with every data backend."""

import shutil
import signal
import subprocess
import sys
import time

import pytest

from helpers.commands import PROJECT, SMALL, assert_user_error, call
from helpers.patience import generous
from helpers.processes import read_until

# A program must end within seconds. A busy machine takes longer; what hangs takes for ever.
SECONDS_TO_END = 60
BACKENDS = ('mxnet', 'dali-cpu', 'synthetic')


def training(data, workspace, backend, *options):
    command = ['./runner', *SMALL, '--device', 'cpu', '--data-root', data, '--data-backend', backend, '--seed', '1']
    command += ['--num-examples', '240', '--num-classes', '10', '--warmup-epochs', '0', '--workspace', workspace]
    return [*command, *options]


@pytest.mark.parametrize('backend', BACKENDS)
def test_loss_that_is_no_number(small_data, tmp_path, backend):
    command = training(small_data, tmp_path, backend, '-l', '1e30')
    result = call(*command, timeout=generous(SECONDS_TO_END))
    assert result.returncode == 3
    (line,) = result.stderr.splitlines()
    assert line.startswith('error: the loss is ')


@pytest.mark.parametrize('backend', ['mxnet', 'dali-cpu'])
@pytest.mark.parametrize('split', ['train', 'val'])
def test_record_that_does_not_decode(small_data, tmp_path, backend, split):
    data = shutil.copytree(small_data, tmp_path / 'data')
    offset = int((data / f'{split}.idx').read_text().splitlines()[50].split()[1])
    with (data / f'{split}.rec').open('r+b') as records:
        # After the headers of the record and the image.
        records.seek(offset + 8 + 24)
        records.write(bytes(200))
    result = call(*training(data, tmp_path / 'run', backend), timeout=generous(SECONDS_TO_END))
    assert_user_error(result, f'{split}.rec: record 50 at byte {offset}: its image does not decode')


@pytest.mark.parametrize('backend', BACKENDS)
def test_interrupt(start, small_data, tmp_path, backend):
    command = training(small_data, tmp_path, backend, '-e', '10000', '--disp-batches', '1')
    process = start(*command, stderr=subprocess.PIPE)
    read_until(process, 'epoch 1 step 3/')
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=generous(SECONDS_TO_END))
    assert process.returncode == 130
    assert errors == ''


PROGRAMS = {
    'runner': ['./runner', '--data-backend', 'synthetic', '--device', 'cpu'],
    'train.py': [sys.executable, 'train.py', '--data-backend', 'synthetic', '--device', 'cpu'],
    'benchmark.py': ['./benchmark.py', '-b', '8'],
    'report.py': ['./report.py', 'show', 'report.json'],
    'models.py': ['./models.py', '--summary'],
    'prepare_dataset.py': ['scripts/prepare_dataset.py', '/dev/null', '/dev/null/out'],
    'show_batch.py': ['scripts/show_batch.py', '--data-root', '/nowhere'],
    'show_mistakes.py': ['scripts/show_mistakes.py', '/nowhere'],
}


def hold_interrupts():
    """Hold Ctrl-C back until the program takes it: while Python itself starts, nothing can prevent a traceback."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])


@pytest.mark.parametrize('program', PROGRAMS)
def test_interrupt_in_the_first_second(start, tmp_path, program):
    command = PROGRAMS[program]
    command = [*command, '--workspace', tmp_path] if program in ('runner', 'train.py') else command
    for milliseconds in range(0, 1000, 200):
        process = start(*command, stderr=subprocess.PIPE, preexec_fn=hold_interrupts)
        time.sleep(milliseconds / 1000)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=generous(SECONDS_TO_END))
        assert 'Traceback' not in errors
        # Some end in less than a second, with an error of the user or without. At its very end, Python restores what
        # Ctrl-C does by default: it ends a process without a word.
        assert process.returncode in ((130,) if milliseconds == 0 else (130, 0, 2, -signal.SIGINT))


INTERRUPTED_IN_A_DESTRUCTOR = """
import sys, time
sys.path.insert(0, {project!r})
from imagenet.common.program import run_program
class Resource:
    def __del__(self):
        print('closing', flush=True)
        time.sleep(0.5)
def main():
    Resource()
    time.sleep(600)
run_program(main)
"""


def test_interrupt_in_a_destructor(start):
    process = start(
        sys.executable, '-c', INTERRUPTED_IN_A_DESTRUCTOR.format(project=str(PROJECT)), stderr=subprocess.PIPE
    )
    read_until(process, 'closing')
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=generous(SECONDS_TO_END))
    assert process.returncode == 130
    assert errors == ''


RUNS_OUT_OF_MEMORY = """
import resource, sys
sys.path.insert(0, {project!r})
from imagenet.common.program import run_program, start_program
start_program('mxnet')
import psutil
from imagenet.runtime.compat import mx
def main():
    mx.nd.zeros((1,)).wait_to_read()
    limit = psutil.Process().memory_info().vms + (1 << 30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    mx.nd.zeros((1 << 29,)).wait_to_read()
run_program(main)
"""


def test_out_of_memory():
    result = call(sys.executable, '-c', RUNS_OUT_OF_MEMORY.format(project=str(PROJECT)))
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith('error: out of memory')


@pytest.mark.parametrize('program', ['runner', 'train.py', 'models.py', 'show_batch.py', 'prepare_dataset.py'])
def test_too_little_address_space(program):
    command = ' '.join(PROGRAMS[program])
    result = call('bash', '-c', f'ulimit -v 250000; exec {command}')
    assert_user_error(result, 'ulimit -v 250000: this program needs at least ')


def test_too_little_address_space_for_a_page(saved, tmp_path):
    page = tmp_path / 'run.html'
    command = f'ulimit -v 4000000; ./report.py show {saved} && exec ./report.py html {saved} -o {page}'
    assert_user_error(call('bash', '-c', command), 'ulimit -v 4000000: this program needs at least 72000000')
    assert not page.exists()
