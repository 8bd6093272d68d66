"""`--mode pred` with a long list: a stopped run resumes, and its output is that of an uninterrupted one."""

import json
import os
import resource
import shutil
import signal
import subprocess
import time

import pytest

from helpers.commands import SMALL, assert_user_error, call, call_here, must_succeed, peak_memory, succeed_here

# Their lines fill the pipe several times. A run that is not read waits, so tests can stop it anywhere.
IMAGES = 4000
MISSING = 'missing.jpg'


@pytest.fixture(scope='module')
def predict(trained):
    """The command of a prediction, without the images to classify."""
    return './runner', *SMALL, '--device', 'cpu', '--mode', 'pred', '--load', trained / 'model_best.params'


@pytest.fixture(scope='module')
def long_list(small_tree, tmp_path_factory):
    """A list of the same digits again and again, and of an image that is missing."""
    images = sorted((small_tree / 'val').glob('*/*'))
    lines = [str(images[number % len(images)]) for number in range(IMAGES)]
    lines[IMAGES // 3] = MISSING
    path = tmp_path_factory.mktemp('lists') / 'long.txt'
    path.write_text('\n'.join(lines))
    return path


@pytest.fixture(scope='module')
def expected(predict, long_list):
    """What uninterrupted runs write, by suffix."""
    outputs = {suffix: long_list.with_name(f'expected{suffix}') for suffix in ('.csv', '.json')}
    for output in outputs.values():
        succeed_here(*predict, '--data-pred', long_list, '-o', output)
    return {suffix: output.read_bytes() for suffix, output in outputs.items()}


def work_of(output):
    return output.with_name(f'{output.name}.partial')


def results_of(output):
    return work_of(output) / f'results{output.suffix}'


def begin(start, command, output):
    """Start a run, and return it when it has saved a part of its work and can write no more lines."""
    process = start(*command, '-o', output, stderr=subprocess.PIPE)
    while not (work_of(output) / 'state.json').exists():
        assert process.stdout.readline(), process.stderr.read()
        time.sleep(0.001)
    return process


def kill(process):
    process.kill()
    process.communicate()


def num_done(output):
    return json.loads((work_of(output) / 'state.json').read_text())['done']


@pytest.fixture
def killed(start, predict, long_list, tmp_path):
    """The output of a run that was killed."""
    output = tmp_path / 'found.csv'
    kill(begin(start, [*predict, '--data-pred', long_list], output))
    return output


@pytest.mark.parametrize('suffix', ['.csv', '.json'])
def test_killed_run_resumes(start, predict, long_list, expected, tmp_path, suffix):
    """Three runs, two of them killed and the last line torn, write what an uninterrupted run does."""
    output, command = tmp_path / f'found{suffix}', [*predict, '--data-pred', long_list]
    kill(begin(start, command, output))
    first = num_done(output)
    assert 0 < first < IMAGES
    process = start(*command, '-o', output, stderr=subprocess.PIPE)
    assert process.stderr.readline() == f'resuming: {first} of {IMAGES} images are done\n'
    while num_done(output) == first:
        assert process.stdout.readline()
        time.sleep(0.001)
    kill(process)
    assert not output.exists()
    with results_of(output).open('ab') as file:
        file.write(b'/data/tor')
    second = num_done(output)
    assert first < second < IMAGES
    result = call(*command, '-o', output)
    lines = must_succeed(result).splitlines()
    assert result.stderr.startswith(f'resuming: {second} of {IMAGES} images are done\n')
    assert len(lines) == IMAGES - second
    assert output.read_bytes() == expected[suffix]
    assert not work_of(output).exists()


def test_results_are_in_the_file_as_soon_as_they_are_printed(start, predict, long_list, tmp_path):
    output = tmp_path / 'found.csv'
    process = begin(start, [*predict, '--data-pred', long_list], output)
    rows = results_of(output).read_bytes().splitlines()
    assert rows[0].startswith(b'file,error,class_1,probability_1,')
    assert num_done(output) <= len(rows) - 1 < IMAGES
    kill(process)


@pytest.mark.parametrize(
    ('number', 'exit_code', 'message'),
    [(signal.SIGINT, 130, 'interrupted: '), (signal.SIGTERM, 143, 'error: ended by SIGTERM after ')],
)
def test_stopped_run_says_how_to_resume(start, predict, long_list, expected, tmp_path, number, exit_code, message):
    output = tmp_path / 'found.csv'
    process = begin(start, [*predict, '--data-pred', long_list], output)
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == exit_code
    (line,) = errors.splitlines()
    assert line.startswith(message)
    assert line.endswith(f'the work so far is kept in {work_of(output)}, and the same command resumes from there')
    succeed_here(*predict, '--data-pred', long_list, '-o', output)
    assert output.read_bytes() == expected['.csv']


def test_stopped_run_keeps_others_out(start, predict, long_list, tmp_path):
    output = tmp_path / 'found.csv'
    command = [*predict, '--data-pred', long_list]
    process = begin(start, command, output)
    assert_user_error(call_here(*command, '-o', output), work_of(output), 'in use by another run')
    kill(process)


def test_other_work_is_not_resumed(predict, long_list, killed, trained, tmp_path):
    """The options, the network and the images must be the same, and an old output stays until then."""
    other = tmp_path / 'other.txt'
    other.write_text(long_list.read_text().replace(MISSING, 'absent.jpg'))
    kept = shutil.copytree(work_of(killed), tmp_path / 'kept')
    killed.write_text('before')
    network = shutil.copy(next(trained.glob('model_resume_*_parameters.params')), tmp_path)
    for options, difference in (
        (('--data-pred', long_list, '--max-pixels', '900'), '--max-pixels was 200000000, is 900'),
        (('--data-pred', long_list, '--no-fuse'), '--no-fuse was False, is True'),
        (('--data-pred', long_list, '--data-val-resize', '40'), '--data-val-resize was 32, is 40'),
        (('--data-pred', other), 'another list of images'),
        (('--data-pred', long_list, '--load', network), 'another file of --load'),
    ):
        result = call_here(*predict, *options, '-o', killed)
        assert_user_error(result, work_of(killed), difference, 'use the same options to resume it')
    assert killed.read_text() == 'before'
    for path in kept.iterdir():
        assert (work_of(killed) / path.name).read_bytes() == path.read_bytes()


def test_batch_size_may_change(predict, long_list, expected, killed):
    """A run may have been stopped because it had too little memory."""
    succeed_here(*predict, '--data-pred', long_list, '-o', killed, '-b', '7')
    files = [
        [row.split(b',')[0] for row in content.splitlines()] for content in (killed.read_bytes(), expected['.csv'])
    ]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda work: os.truncate(work / 'results.csv', 10), 'shorter than recorded'),
        (lambda work: (work / 'state.json').write_text('{'), 'not the state of a run'),
    ],
)
def test_damaged_work(predict, long_list, killed, damage, message):
    damage(work_of(killed))
    result = call_here(*predict, '--data-pred', long_list, '-o', killed)
    assert_user_error(result, message, f'remove {work_of(killed)} to start over')


def test_full_disk(predict, long_list, expected, tmp_path):
    """A limit on the size of files has the same effect as a full disk."""
    output = tmp_path / 'found.csv'
    limit = len(expected['.csv']) * 2 // 3

    def limit_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    result = call(*predict, '--data-pred', long_list, '-o', output, preexec_fn=limit_files)
    assert_user_error(result, work_of(output), 'cannot write', 'the same command resumes')
    assert not output.exists()
    succeed_here(*predict, '--data-pred', long_list, '-o', output)
    assert output.read_bytes() == expected['.csv']


def test_no_image_can_be_read(start, predict, tmp_path):
    """That is an error, also if it takes two runs; and the images that are not read are not read again."""
    (tmp_path / 'list.txt').write_text('\n'.join(f'missing{number}.jpg' for number in range(IMAGES)))
    output, command = tmp_path / 'found.csv', [*predict, '--data-pred', tmp_path / 'list.txt']
    kill(begin(start, command, output))
    result = call_here(*command, '-o', output)
    assert result.returncode == 2
    assert result.stderr.splitlines()[0].startswith('resuming: ')
    assert result.stderr.splitlines()[1].startswith(
        f'error: --data-pred {tmp_path}/missing0.jpg: cannot read this image'
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ['list.txt']


def test_nothing_is_left_of_a_run_that_cannot_begin(predict, long_list, tmp_path):
    output = tmp_path / 'found.csv'
    result = call_here(*predict, '--data-pred', long_list, '-o', output, '--num-layers', '18')
    assert_user_error(result, '--num-layers')
    output.with_suffix('.json').mkdir()
    result = call_here(*predict, '--data-pred', long_list, '-o', output.with_suffix('.json'))
    assert_user_error(result, 'it is a folder or a device')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['found.json']


def test_memory_does_not_grow_with_the_list(predict, small_tree, tmp_path):
    """The path is so long that it would take 90 MB to keep it for each image; peaks of equal runs differ by 25 MB."""
    folder = tmp_path.joinpath(*['x' * 250] * 12)
    folder.mkdir(parents=True)
    image = shutil.copy(min((small_tree / 'val').glob('*/*')), folder)
    peaks = []
    for count in (4000, 32_000):
        path = tmp_path / f'{count}.txt'
        path.write_text(f'{image}\n' * count)
        peaks.append(peak_memory(*predict, '--data-pred', path, '-o', tmp_path / f'{count}.json'))
    assert peaks[1] < peaks[0] + 50_000_000
