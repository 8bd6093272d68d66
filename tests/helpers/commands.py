"""The project's commands: in processes of their own, as a user starts them, or in this one, which is much faster."""

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
SMALL = ('--image-shape', '3,32,32', '--data-val-resize', '32', '--num-layers', '18', '-b', '16')


def call(*command, **settings):
    """Run a program of the project as a user would; return the completed process, with its output as text."""
    command = [str(part) for part in command]
    environment = {**os.environ, **settings.pop('env', {})}
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, **settings)


class ReplacedError(Exception):
    """Takes the place of `os.execve`, which would end the tests: holds the command and its environment."""


def _replace(program, command, environment=os.environ):
    raise ReplacedError(command, dict(environment))


def call_here(*command, env=None):
    """Do what `call` does without a process, for a Python program of the project. It must be one that does not crash.

    Libraries are loaded only once, and variables that they read when they are loaded have no effect. GPUs, which are
    hidden from this process, are used in another one.
    """
    if os.environ.get('CUDA_VISIBLE_DEVICES') != '':
        return call(*command, env=env or {})
    program, *options = (str(part) for part in command)
    if Path(program).name.startswith('python'):
        program, *options = options
    # Files, as some programs use what only files can do.
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
    """Return the module of a program, which may have no ending; a door is the module that others import."""
    path = PROJECT / path
    name = path.stem
    if name not in sys.modules:
        loader = importlib.machinery.SourceFileLoader(name, str(path))
        module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
        sys.modules[name] = module
        loader.exec_module(module)
    return sys.modules[name]


def must_succeed(result):
    """Return the stdout of a program, which must have succeeded."""
    assert result.returncode == 0, f'{result.args}\n{result.stdout}\n{result.stderr}'
    return result.stdout


def succeed(*command, **settings):
    return must_succeed(call(*command, **settings))


def succeed_here(*command, **settings):
    return must_succeed(call_here(*command, **settings))


def assert_user_error(result, *expected):
    """Assert that a program ended with a user's mistake: exit code 2, and one line with the expected texts."""
    assert result.returncode == 2, f'exit code {result.returncode}\n{result.stdout}\n{result.stderr}'
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    for text in expected:
        assert str(text) in lines[0]


def training(data, workspace, *options):
    """Return the command for two epochs of the smallest network with seed 7."""
    command = ['./runner', *SMALL, '--data-root', data, '-e', '2', '--warmup-epochs', '1', '-l', '0.5', '--seed', '7']
    return [*command, '--workspace', workspace, *options]
