"""Runs the programs of a checkout in one process, each time on another mutation.

`worker.py CHECKOUT ASSETS FOLDER SEED` reads lines "KIND<tab>NUMBER", and writes a JSON line about each. It may
crash or hang; then `command` and `errors` in the folder show what it was doing. See run.py.
"""

import importlib.machinery
import importlib.util
import json
import logging
import os
import random
import re
import resource
import shutil
import sys
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path
from unittest import mock

CHECKOUT, ASSETS, FOLDER = (Path(argument).resolve() for argument in sys.argv[1:4])
SEED = sys.argv[4]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / 'scripts'), str(Path(__file__).resolve().parents[1])]

from fuzz.kinds import KINDS, Scene  # noqa: E402
from imagenet.common.errors import one_line_errors  # noqa: E402
from imagenet.runtime.compat import load_mxnet  # noqa: E402

# Beyond what the libraries occupy.
MEMORY = 4 << 30
DOCUMENTED_EXIT_CODES = (0, 1, 2, 3, 4, 130, 141)
ERRORS_OF_ONE_LINE = (2, 3, 4)
TRACEBACK = 'Traceback (most recent call last)'
# Errors that one_line_errors shows in a line although nobody has expected them. A file must not cause them.
UNEXPLAINED = re.compile(r'^error: (out of memory|\S+ failed:)', re.MULTILINE)


class ReplacedError(BaseException):
    """Raised where a program would replace itself by another one."""


def main():
    results = os.fdopen(os.dup(1), 'w', buffering=1)
    output, errors = ((FOLDER / name).open('w+b') for name in ('output', 'errors'))
    os.dup2(errors.fileno(), 2)
    load_mxnet()
    limit_memory()
    results.write('ready\n')
    for line in sys.stdin:
        kind, number = line.rstrip('\n').split('\t')
        results.write(json.dumps(run(kind, number, output, errors)) + '\n')


def limit_memory():
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(kind, number, output, errors):
    """Run one mutation; return its command, exit code, errors, and what is wrong with them."""
    folder = FOLDER / 'scene'
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    os.chdir(folder)
    scene = Scene(random.Random(f'{SEED} {kind} {number}'), ASSETS, folder, options_of)
    command = [str(part) for part in KINDS[kind](scene)]
    (FOLDER / 'command').write_text(json.dumps(command))
    for file, descriptor in ((output, 1), (errors, 2)):
        file.seek(0)
        file.truncate()
        # A program may have redirected it.
        os.dup2(file.fileno(), descriptor)
    code = call(command)
    errors.seek(0)
    said = errors.read().decode('utf-8', 'backslashreplace')
    return {'command': command, 'code': code, 'said': said[-3000:], 'findings': findings(code, said)}


def findings(code, said):
    """Return what is wrong with an exit code and an error output."""
    found = []
    if code == TRACEBACK or TRACEBACK in said or UNEXPLAINED.search(said):
        found.append('traceback')
    elif code not in DOCUMENTED_EXIT_CODES:
        found.append('exit code')
    elif code in ERRORS_OF_ONE_LINE and len([line for line in re.split('[\n\r]', said) if line.strip()]) != 1:
        found.append('second line')
    return found


def call(command):
    """Run a program's main function; return its exit code, or `TRACEBACK` after an exception."""
    program, *options = command
    log = logging.getLogger('imagenet')
    # As in a real process: `FileIO` objects without a buffer of an earlier run.
    streams = {
        name: open(number, 'w', buffering=1, errors='backslashreplace', closefd=False)
        for name, number in (('stdout', 1), ('stderr', 2))
    }
    with mock.patch.multiple(sys, argv=[program, *options], **streams), mock.patch.multiple(
        os, execv=replaced, execve=replaced
    ), mock.patch.object(log, 'handlers', []), mock.patch.dict(os.environ):
        try:
            with one_line_errors():
                load_program(program).main()
            return 0
        except SystemExit as end:
            return end.code or 0
        except ReplacedError:
            return 0
        except BaseException:
            traceback.print_exc()
            return TRACEBACK


def replaced(*_):
    raise ReplacedError


def load_program(path):
    """Return a program's module, which is loaded once."""
    name = Path(path).stem
    if name not in sys.modules:
        loader = importlib.machinery.SourceFileLoader(name, str(CHECKOUT / path))
        sys.modules[name] = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
        loader.exec_module(sys.modules[name])
        if name == 'benchmark':
            # It starts a process that loads MXNet.
            environment = json.loads((ASSETS / 'sweep.json').read_text())['environment']
            sys.modules[name].describe_environment = lambda *_: environment
    return sys.modules[name]


KNOWN_OPTIONS = {}


def options_of(program):
    """Return the options of a program, from its help."""
    if program not in KNOWN_OPTIONS:
        with tempfile.TemporaryFile('w+') as output, mock.patch.multiple(sys, argv=[program, '--help'], stdout=output):
            with suppress(SystemExit):
                load_program(program).main()
            output.seek(0)
            found = set(re.findall(r'^\s+(?:-\w(?: \S+)?, )?(--[a-z][a-z0-9-]+)', output.read(), re.MULTILINE))
        KNOWN_OPTIONS[program] = sorted(found - {'--help'})
    return KNOWN_OPTIONS[program]


if __name__ == '__main__':
    main()
