"""A run's folder: file names, and the lock that keeps other runs out."""

import itertools
import tempfile
from pathlib import Path

from imagenet.common.errors import UserError
from imagenet.common.files import sole_use_of
from imagenet.reporting.report_file import is_of_training


def check_file_names(workspace, names):
    """Raise `UserError` unless each option names a different file in the workspace.

    Args:
        names: dict from option to file name; --model-prefix, with which several names begin, may equal another name.
    """
    for option, name in names.items():
        if not name or Path(name).name != name or (workspace / name).is_dir():
            raise UserError(
                f'{option} {name}: must be the name of a file in the workspace; choose the folder with --workspace'
            )
    files = {option: name for option, name in names.items() if option != '--model-prefix'}
    if len(set(files.values())) < len(files):
        raise UserError(f'{" ".join(f"{option} {name}" for option, name in files.items())}: names must differ')


def make_folder(folder, option):
    """Create a folder, unless it exists.

    Args:
        option: the option that names it, for error messages.

    Raises:
        UserError: files cannot be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f'{option} {folder}: cannot write there ({error.strerror})') from None


def folder_for_new_run(workspace):
    """Return a folder for a run that must not touch an earlier one's files: the workspace if empty, else a new one.

    Returns:
        The folder, and a line for the log or None.
    """
    if not any(workspace.iterdir()):
        return workspace, None
    folders = (workspace / f'run{number}' for number in itertools.count(2))
    folder = next(folder for folder in folders if not folder.exists())
    folder.mkdir()
    return folder, f'--no-resume: this run is in {folder}; to resume it, use that folder as --workspace'


def names_beside_training(workspace, report, names, prefix):
    """Return file names that differ from those of a training run in the workspace.

    Args:
        report: name of the report, which shows whether there is a training run.
        names: dict from option to file name.
        prefix: the prefix for the names if there is a training run.

    Returns:
        The names, and a line for the log or None.
    """
    if not is_of_training(workspace / report):
        return names, None
    note = f"{workspace} has a training run's report and logs: the names of these begin with {prefix}_"
    return {option: f'{prefix}_{name}' for option, name in names.items()}, note


def only_run(workspace, model_prefix):
    """Keep other training runs out of the workspace; see `sole_use_of`."""
    return sole_use_of(workspace / f'.{model_prefix}.lock')
