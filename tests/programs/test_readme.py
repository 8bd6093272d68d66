"""README's commands as a newcomer types them: in a shell where nothing is activated."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import namedtuple

import pytest

import train
from helpers.commands import PROJECT, assert_user_error, call
from helpers.datasets import write_classes
from imagenet.reporting.report_file import Report

BARE = {'HOME': os.environ.get('HOME', '/'), 'PATH': '/usr/bin:/bin'}
# README's folders, and where the test has them.
FOLDERS = {'/data/': 'data/'}

# How a command is shortened until it takes no time, but still starts.
# start: the words with which it begins.
# runs: a function from its words to those that are run; None if this machine cannot run it.
Shortened = namedtuple('Shortened', 'start runs')


def added(*options):
    return lambda words: [*words, *options]


def instead(*command):
    return lambda words: list(command)


SHORTENED = [
    Shortened(('make',), lambda words: ['make', '--dry-run', *words[1:]]),
    Shortened(('mkdir',), added()),
    Shortened(('docker',), None),
    Shortened(('sbatch',), lambda words: ['bash', '-n', words[1]]),
    # It would replace the environment of the tests.
    Shortened(('scripts/setup.sh',), lambda words: ['bash', '-n', words[0]]),
    Shortened(('scripts/prepare_imagenet.sh',), added()),
    Shortened(('scripts/prepare_dataset.py',), added()),
    Shortened(('scripts/check_dataset.py',), added()),
    Shortened(('scripts/show_batch.py',), added('--num-images', '2', '--image-shape', '3,32,32')),
    # test_average_checkpoints.py has networks to average.
    Shortened(('scripts/average_checkpoints.py',), added('--help')),
    # It shows what a network got wrong.
    Shortened(('scripts/show_mistakes.py',), added('--help')),
    # test_pretrained.py downloads it.
    Shortened(('scripts/get_pretrained.py',), added('--help')),
    Shortened(('./runner', '--check'), added()),
    Shortened(('./runner',), added('--dry-run')),
    Shortened(('./benchmark.py',), added('-n', '1', '-b', '8', '--dry-run')),
    Shortened(('./report.py',), added()),
    Shortened(('./models.py',), added('--num-layers', '50', '--image-shape', '3,32,32')),
    Shortened(('python3', 'benchmarks/scaling.py'), added()),
]


def readme_commands():
    """Return the words of each command in README's indented blocks, without variables and comments, in order."""
    text = (PROJECT / 'README.md').read_text(encoding='utf-8')
    blocks = re.findall(r'(?:^    .*\n)+', text, flags=re.MULTILINE)
    lines = ''.join(blocks).replace('\\\n', ' ').splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def how_to_run(words):
    """Return the words of a shortened command, or None if it is not run here."""
    known = next((known for known in SHORTENED if tuple(words[: len(known.start)]) == known.start), None)
    assert known is not None, f'README has a command that this test does not know: {shlex.join(words)}'
    return known.runs and known.runs(words)


@pytest.fixture
def newcomer(tmp_path):
    """A folder that looks like the project's, with the files that README's commands name."""
    folder = tmp_path / 'imagenet-mxnet'
    folder.mkdir()
    for entry in PROJECT.iterdir():
        if entry.name not in ('demo', 'runs', '.git'):
            (folder / entry.name).symlink_to(entry)
    write_classes(folder / 'photographs', {'cat': 10, 'dog': 10})
    for split in ('train', 'val'):
        write_classes(folder / 'flowers' / split, {'daisy': 3, 'rose': 3})
    for split in ('train', 'val'):
        write_classes(folder / 'data' / 'imagenet' / 'raw' / split, {'cat': 2, 'dog': 2})
    report = Report('resnetv15-50', 1, ['train.py'])
    report.add('train', {'loss': 2.0, 'top1': 0.7, 'total_ips': 9000.0})
    report.add('val', {'top1': 0.76})
    for name in ('report', 'before', 'after'):
        report.save(folder / f'{name}.json')
    return folder


def type_in(folder, words):
    return subprocess.run(words, cwd=folder, env=BARE, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def test_every_command_starts(newcomer):
    """In README's order, because some need what others have made."""
    for words in readme_commands():
        for theirs, ours in FOLDERS.items():
            words = [word.replace(theirs, ours) if word.startswith(theirs) else word for word in words]
        command = how_to_run(words)
        if command is not None:
            result = type_in(newcomer, command)
            assert result.returncode == 0, f'{shlex.join(command)}\n{result.stdout}\n{result.stderr}'


def test_options_of_every_run(newcomer, capsys):
    """train.py has all options that a command passes to it."""
    for words in readme_commands():
        if words[0] == './runner' and '--check' not in words:
            shown = type_in(newcomer, [*words, '--dry-run']).stdout.splitlines()[-1]
            options = shown.split('train.py', 1)[1]
            train.parse_args(shlex.split(options))


PROGRAMS = sorted(
    str(path.relative_to(PROJECT))
    for path in (*PROJECT.glob('*'), *PROJECT.glob('scripts/*.py'))
    if path.is_file() and "if __name__ == '__main__':" in path.read_text(errors='replace')
)


@pytest.mark.parametrize('program', PROGRAMS)
def test_help_in_a_bare_shell(program):
    result = type_in(PROJECT, [f'./{program}', '--help'])
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith('usage: ')


@pytest.fixture(scope='module')
def empty_python(tmp_path_factory):
    """An interpreter without packages."""
    folder = tmp_path_factory.mktemp('empty')
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', folder], check=True)
    return folder / 'bin' / 'python'


@pytest.fixture(scope='module')
def project_without_environment(tmp_path_factory):
    copy = tmp_path_factory.mktemp('copy') / 'project'
    return shutil.copytree(PROJECT, copy, ignore=shutil.ignore_patterns('.venv', '.pythons', 'demo', '.git', 'tests'))


@pytest.mark.parametrize('program', [program for program in PROGRAMS if program != 'runner'])
def test_program_without_an_environment(empty_python, project_without_environment, program):
    result = call(empty_python, project_without_environment / program, '--help', env={'VIRTUAL_ENV': ''})
    assert_user_error(result, f'{empty_python} has no ', 'run scripts/setup.sh')


@pytest.mark.parametrize('program', PROGRAMS)
def test_old_interpreter_can_read_what_finds_a_new_one(program):
    """A syntax error would come before anything is run."""
    for path in (
        program,
        *(f'imagenet/common/{name}.py' for name in ('program', 'errors', 'output', 'text', 'virtualenv')),
    ):
        ast.parse((PROJECT / path).read_text(encoding='utf-8'), feature_version=(3, 6))
