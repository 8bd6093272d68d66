"""The project's commands, run in separate processes like a user's, or in this process, which is much faster."""

import importlib.machinery
import importlib.util
import logging
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

PROJECT = Path(__file__).resolve().parents[2]
# The smallest network on the small data set.
SMALL = ('--image-shape', '3,32,32', '--data-val-resize', '32', '--num-layers', '10', '-b', '16')


def call(*command, **settings):
    """Run a program of the project as a user would; return the completed process, with its output as text."""
    command = [str(part) for part in command]
    environment = {**os.environ, **settings.pop('env', {})}
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, **settings)


class ReplacedError(Exception):
    """Raised instead of calling `os.execve`, which would end the tests. Holds the command and its environment."""


def _replace(program, command, environment=os.environ):
    raise ReplacedError(command, dict(environment))


def call_here(*command, env=None):
    """Do what `call` does, but in this process. The command must be a Python program of the project and must not crash.

    Libraries are loaded only once, so environment variables that they read while loading have no effect. GPUs are
    hidden from this process, so a test that uses GPUs runs the command in another process.
    """
    if os.environ.get('CUDA_VISIBLE_DEVICES') != '':
        return call(*command, env=env or {})
    program, *options = (str(part) for part in command)
    if Path(program).name.startswith('python'):
        program, *options = options
    # Real files, because some programs use features that only files have.
    output, errors = (tempfile.TemporaryFile('w+', encoding='utf-8', errors='surrogateescape') for _ in range(2))
    log = logging.getLogger('imagenet')
    changes = [
        mock.patch.object(log, 'handlers', []),
        mock.patch.object(log, 'propagate', False),
        mock.patch.dict(os.environ, env or {}),
        mock.patch.object(sys, 'argv', [program, *options]),
        mock.patch.object(os, 'execve', _replace),
        mock.patch.object(os, 'execv', _replace),
        redirect_stdout(output),
        redirect_stderr(errors),
    ]
    with output, errors, ExitStack() as stack:
        for change in changes:
            stack.enter_context(change)
        try:
            load_program(program).main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        except ReplacedError as replaced:
            return call_here(*replaced.args[0], env=replaced.args[1])
        return subprocess.CompletedProcess(command, code, _content(output), _content(errors))


def _content(file):
    file.flush()
    file.seek(0)
    return file.read()


def load_program(path):
    """Return a program's module. The file may have no suffix. A module that is already imported is not loaded again."""
    path = PROJECT / path
    name = path.stem
    if name not in sys.modules:
        loader = importlib.machinery.SourceFileLoader(name, str(path))
        module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
        sys.modules[name] = module
        loader.exec_module(module)
    return sys.modules[name]


def must_succeed(result):
    """Assert that a program has succeeded; return its stdout."""
    assert result.returncode == 0, f'{result.args}\n{result.stdout}\n{result.stderr}'
    return result.stdout


def succeed(*command, **settings):
    return must_succeed(call(*command, **settings))


def succeed_here(*command, **settings):
    return must_succeed(call_here(*command, **settings))


def peak_memory(*command):
    """Run a program, which must succeed; return the memory in bytes that its largest process used at most."""
    # The peak of a process includes that of the one that started it, so a small one does.
    measure = (
        'import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); '
        'print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)'
    )
    return 1024 * int(succeed(sys.executable, '-c', measure, *command))


def assert_user_error(result, *expected):
    """Assert that a program reported a user error: exit code 2, and one line with the expected texts."""
    assert result.returncode == 2, f'exit code {result.returncode}\n{result.stdout}\n{result.stderr}'
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    for text in expected:
        assert str(text) in lines[0]


def training(data, workspace, *options):
    """Return the command for two epochs of the smallest network with seed 7."""
    command = ['./runner', *SMALL, '--data-root', data, '-e', '2', '--warmup-epochs', '1', '-l', '0.5', '--seed', '7']
    return [*command, '--workspace', workspace, *options]


def resumable(data, workspace, *options):
    """Return the command for four epochs of the smallest network with everything that a checkpoint holds."""
    command = ['./runner', *SMALL, '--data-root', data, '-e', '4', '--warmup-epochs', '1', '--seed', '7']
    return [*command, '--mixup', '0.2', '--ema-decay', '0.9', '--disp-batches', '5', '--workspace', workspace, *options]
