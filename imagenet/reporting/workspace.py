"""A run's folder: file names, and the lock that keeps other runs out."""

import itertools
import tempfile
from pathlib import Path

from imagenet.common.errors import UserError
from imagenet.common.files import sole_use_of
from imagenet.reporting.report_file import is_of_training


def choose_files(args):
    """Keeps a run from writing over another one's files: in a folder of its own, or under names of its own.

    Returns:
        What it changed of `args`, and a line for the log about it or None.
    """
    if 'train' in args.mode and not args.test_io:
        if not args.no_resume or not any(args.workspace.iterdir()):
            return {}, None
        folders = (args.workspace / f'run{number}' for number in itertools.count(2))
        folder = next(folder for folder in folders if not folder.exists())
        folder.mkdir()
        note = f'--no-resume: this run is in {folder}; name that as --workspace to go on with it'
        return {'workspace': str(folder)}, note
    if not is_of_training(args.workspace / args.report):
        return {}, None
    prefix = 'io' if args.test_io else args.mode
    changes = {name: f'{prefix}_{getattr(args, name)}' for name in ('report', 'log', 'dllogger_log')}
    return changes, f"{args.workspace} has a training run's report and logs: the names of these begin with {prefix}_"


def only_run(args):
    """Keeps other training runs out of the workspace; see `sole_use_of`."""
    return sole_use_of(args.workspace / f'.{args.model_prefix}.lock')


def check_log_args(args):
    """Raises `UserError` for names that are no files of their own in the workspace."""
    names = {'--log': args.log, '--dllogger-log': args.dllogger_log, '--report': args.report}
    for option, name in {**names, '--model-prefix': args.model_prefix}.items():
        if not name or Path(name).name != name or (args.workspace / name).is_dir():
            raise UserError(
                f'{option} {name}: needed is the name of a file in the workspace; see --workspace for folders'
            )
    if len(set(names.values())) < len(names):
        raise UserError(f'{" ".join(f"{option} {name}" for option, name in names.items())}: needed are different names')


def make_workspace(args):
    """Creates the workspace.

    Raises:
        UserError: nothing can be written there.
    """
    try:
        args.workspace.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=args.workspace):
            pass
    except OSError as error:
        raise UserError(f'--workspace {args.workspace}: cannot write there ({error.strerror})') from None
