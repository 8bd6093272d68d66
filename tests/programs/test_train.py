"""./runner and train.py in separate processes, as a user starts them."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from helpers.commands import PROJECT, SMALL, assert_user_error, call, succeed, training
from helpers.loaders import write_records
from helpers.patience import wait_until
from helpers.processes import read_terminal, read_until
from imagenet.reporting.report_file import read_report

pytestmark = pytest.mark.usefixtures('device')


def run(data, workspace, *options, **settings):
    return call('./runner', *SMALL, '--data-root', data, '--workspace', workspace, *options, **settings)


def validate(data, workspace, checkpoint, *options):
    result = run(data, workspace, '--mode', 'val', '--load', checkpoint, *options)
    assert result.returncode == 0, result.stderr
    return read_report(workspace / 'report.json')['metrics']


@pytest.mark.gpus(3)
def test_accuracy_does_not_depend_on_the_processes(small_data, trained, tmp_path):
    """70 images are divisible neither by 3 processes nor by the batch size of 16."""
    one = validate(small_data, tmp_path / '1', trained / 'model_best.params')
    three = validate(small_data, tmp_path / '3', trained / 'model_best.params', '-n', '3')
    for name in ('val.top1', 'val.top5'):
        assert one[name] == three[name]
    assert one['val.loss'] == pytest.approx(three['val.loss'], rel=1e-5)


@pytest.mark.parametrize('options', [('-b', '64'), ('-n', '3', '-b', '64')])
@pytest.mark.only_on_cpu('must exactly match a run on a CPU')
def test_validation_set_smaller_than_a_batch(small_data, trained, tmp_path, options):
    best = max(read_report(trained / 'report.json')['metrics']['val.top1'])
    assert validate(small_data, tmp_path, trained / 'model_best.params', *options, '-b', '500')['val.top1'] == [best]


@pytest.mark.gpus(3)
def test_more_processes_than_validation_images(trained, tmp_path):
    """Two images for three processes: one has nothing to do."""
    write_records(tmp_path, [np.zeros((32, 32, 3), dtype=np.uint8)] * 2, split='val')
    one, three = (
        validate(tmp_path, tmp_path / n, trained / 'model_best.params', '-n', n, '-b', '4')['val.top1'] for n in '13'
    )
    assert one == three


@pytest.mark.gpus(2)
def test_two_processes_train_as_one(small_data, tmp_path):
    """With Horovod, both have the same parameters, and together they write one report and one set of files."""
    output = succeed(*training(small_data, tmp_path, '-n', '2', '-b', '8'))
    assert output.count('epoch 2/2') == 1
    report = read_report(tmp_path / 'report.json')
    assert report['ngpus'] == 2
    best = max(report['metrics']['val.top1'])
    assert validate(small_data, tmp_path / 'val', tmp_path / 'model_best.params')['val.top1'] == [best]


def test_prediction(digits_tree, trained):
    image = min((digits_tree / 'val' / '0_zero').iterdir())
    output = succeed(
        './runner', *SMALL, '--mode', 'pred', '--load', trained / 'model_best.params', '--data-pred', image
    )
    rows = [line.split() for line in output.splitlines()]
    assert len(rows) == 10
    assert {name for _, name in rows} == {path.name for path in (digits_tree / 'val').iterdir()}
    probabilities = [float(probability.rstrip('%')) for probability, _ in rows]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(100, abs=0.01)


def shown_on_a_terminal(command):
    """Return what a command, which must succeed, writes to a terminal."""
    master, terminal = pty.openpty()
    process = subprocess.Popen([str(part) for part in command], cwd=PROJECT, stdout=terminal, stderr=terminal)
    os.close(terminal)
    shown = read_terminal(master)
    assert process.wait() == 0
    return shown.decode()


@pytest.mark.parametrize('processes', [1, 2])
@pytest.mark.gpus(2)
def test_progress_bar_on_a_terminal(small_data, tmp_path, processes):
    command = ['./runner', '-n', processes, *SMALL, '--data-root', small_data, '-e', '1', '--workspace', tmp_path]
    text = shown_on_a_terminal([*command, '--disp-batches', '3'])
    assert 'epoch 1/1 |' in text
    assert 'images/s, lr ' in text
    assert ' step 3/' not in text


def test_interrupt_does_not_wait_for_steps_that_were_pushed(start, tmp_path):
    """Thousands of steps are queued without waiting. The progress bar shows when the first one is done."""
    command = ['./runner', '--data-backend', 'synthetic', '--device', 'cpu', '-b', '16', '--disp-batches', '100000']
    master, terminal = pty.openpty()
    process = start(*command, '--num-examples', '160000', '--workspace', tmp_path, stderr=terminal)
    os.close(terminal)
    shown = b''
    while b' 1/10000' not in shown:
        shown += os.read(master, 4096)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate()
    os.close(master)
    assert process.returncode == 130
    assert 'interrupted: no checkpoint was saved yet' in output
    assert b'Traceback' not in shown


def test_interrupt(start, small_data, tmp_path):
    command = ['./runner', *SMALL, '--data-root', small_data, '-e', '5000', '--workspace', tmp_path]
    process = start(*command, stderr=subprocess.PIPE)
    wait_until((tmp_path / 'model_best.params').exists, process)
    read_until(process, 'epoch 2/')
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert process.returncode == 130
    assert output.splitlines()[-1].startswith('interrupted: ')
    assert errors == ''
    assert read_report(tmp_path / 'report.json')['metrics']['val.top1']


class TestBadInput:
    """Each mistake is reported in one line, with exit code 2."""

    @pytest.fixture
    def data(self, small_data, tmp_path):
        return shutil.copytree(small_data, tmp_path / 'data')

    @pytest.mark.gpus(2)
    def test_mistake_with_several_processes(self, data, tmp_path):
        """The mistake is reported once, without horovodrun's messages."""
        (data / 'val.rec').write_bytes(b'')
        assert_user_error(run(data, tmp_path, '-n', '2'), data / 'val.rec', 'is empty')

    @pytest.mark.parametrize('processes', [1, 2])
    @pytest.mark.gpus(2)
    def test_what_only_building_tells(self, data, trained, tmp_path, processes):
        """Too few images for one batch, and a checkpoint of another network, with one process and with two."""
        launch = ('-n', processes)
        assert_user_error(run(data, tmp_path, *launch, '-b', '300'), '--batch-size', 'do not fill one batch')
        options = ('--mode', 'val', '--load', trained / 'model_best.params', '--num-layers', '34')
        assert_user_error(run(data, tmp_path, *launch, *options), 'parameters of another network')

    def test_full_disk(self, data, tmp_path):
        """The disk fills up in the middle of a checkpoint, or at its very end, which MXNet itself does not notice."""
        whole = succeed(*training(data, tmp_path / 'whole', '-e', '1'))
        assert 'saved' in whole
        kibibytes = (tmp_path / 'whole' / 'model_best.params').stat().st_size // 1024
        for name, limit in (('middle', kibibytes // 2), ('end', kibibytes)):
            options = ' '.join(map(str, (*SMALL, '--data-root', data, '-e', '1', '--workspace', tmp_path / name)))
            result = call('bash', '-c', f'ulimit -f {limit}; exec ./runner {options}')
            assert_user_error(result, tmp_path / name / 'model_best.params', 'cannot write the complete file')
            assert not list((tmp_path / name).glob('*.params'))

    def test_environment_without_mxnet(self, tmp_path):
        """The interpreter that runner finds has no packages at all."""
        ignored = shutil.ignore_patterns('.venv', '.pythons', 'demo', '.git')
        project = shutil.copytree(PROJECT, tmp_path / 'project', ignore=ignored)
        subprocess.run([sys.executable, '-m', 'venv', '--without-pip', project / '.venv'], check=True)
        result = call(project / 'runner', '--data-backend', 'synthetic', env={'VIRTUAL_ENV': ''})
        assert_user_error(result, project / '.venv' / 'bin' / 'python', 'run scripts/setup.sh')

    def test_batch_that_processes_cannot_share(self, data, tmp_path):
        command = [sys.executable, 'train.py', '--device', 'cpu', '--batch-size', '33', '--kv-store', 'horovod']
        result = call(*command, '--data-train', data / 'train.rec', env={'HOROVOD_SIZE': '2', 'HOROVOD_RANK': '0'})
        assert_user_error(result, '--batch-size 33', 'use a multiple of 2')


class TestReadingAlone:
    @pytest.mark.gpus(2)
    def test_processes_are_added_up(self, small_data, tmp_path):
        command = ['./runner', '-n', '2', *SMALL, '--data-root', small_data, '--workspace', tmp_path, '--test-io']
        output = succeed(*command, '--test-io-mode', 'val')
        assert 'read 70 images in ' in output


def test_image_that_breaks_in_the_middle(start, small_data, tmp_path):
    """The error gives the record's position, and the checkpoint of the previous epoch is intact."""
    data = shutil.copytree(small_data, tmp_path / 'data')
    offset = int((data / 'train.idx').read_text().splitlines()[100].split()[1])
    workspace = tmp_path / 'run'
    run = ['./runner', *SMALL, '--data-root', data, '--workspace', workspace, '--warmup-epochs', '0', '--seed', '1']
    process = start(*run, '-e', '20000', stderr=subprocess.PIPE)
    read_until(process, 'saved')
    with (data / 'train.rec').open('r+b') as records:
        # After the headers of the record and the image.
        records.seek(offset + 8 + 24)
        records.write(bytes(200))
    _, errors = process.communicate()
    assert process.returncode == 2
    assert f'train.rec: record 100 at byte {offset}: its image does not decode' in errors.splitlines()[-1]
    succeed(
        './runner',
        *SMALL,
        '--data-root',
        data,
        '--mode',
        'val',
        '--load',
        workspace / 'model_best.params',
        '--workspace',
        tmp_path / 'validation',
    )


@pytest.mark.gpus(2)
def test_image_that_only_the_second_process_reads(small_data, tmp_path):
    """The second process's error message still reaches the terminal."""
    data = shutil.copytree(small_data, tmp_path / 'data')
    offset = int((data / 'val.idx').read_text().splitlines()[60].split()[1])
    with (data / 'val.rec').open('r+b') as records:
        records.seek(offset + 8 + 24)
        records.write(bytes(200))
    command = ['./runner', '-n', '2', *SMALL, '--data-root', data, '--test-io', '--test-io-mode', 'val']
    result = call(*command, '--workspace', tmp_path / 'run')
    assert_user_error(result, '[rank 1] error: ', f'val.rec: record 60 at byte {offset}: its image does not decode')


@pytest.mark.parametrize('mode', ['train', 'val'])
@pytest.mark.only_on_cpu('checks the names of CPU operators')
def test_profile(tmp_path, mode):
    options = (
        '--data-backend',
        'synthetic',
        '--num-examples',
        '96',
        '-e',
        '1',
        '--mode',
        mode,
        '--benchmark-iters',
        '6',
    )
    output = succeed('./runner', *SMALL, *options, '--benchmark-iters', '6', '--profile', '3', '--workspace', tmp_path)
    trace = json.loads((tmp_path / 'profile.json').read_text())
    names = {event['name'] for event in trace['traceEvents']}
    # Inference runs a fused graph.
    convolution = {'train': 'Convolution', 'val': '_sg_mkldnn_conv'}[mode]
    assert convolution in names
    assert ('_backward_Convolution' in names) == (mode == 'train')
    assert 'profile of 3 steps' in output
    lines = output.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith('operator '))
    end = next(number for number, line in enumerate(lines) if line.startswith('profile of'))
    assert 3 < end - start - 2 <= 10
    # ResNet-10 has 12 convolutions.
    row = next(line.split() for line in lines if line.startswith(f'{convolution} '))
    assert row[1] == '12'
