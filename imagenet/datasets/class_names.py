"""The names of a network's classes: the data set's own `classes.txt`, or ImageNet's."""

import shutil
from pathlib import Path

from imagenet.common.errors import UserError

IMAGENET_CLASS_FILE = Path(__file__).resolve().with_name('imagenet_classes.txt')


def read_class_names(folder):
    """The lines of a folder's `classes.txt`, or None if there is none.

    Raises:
        UserError: the file is not text.
    """
    path = Path(folder) / 'classes.txt'
    if not path.is_file():
        return None
    try:
        return path.read_text(encoding='utf-8').rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: cannot read the names of the classes ({error})') from None


def find_class_names(folders, num_classes):
    """Names of a network's classes: from the first folder whose `classes.txt` has as many, else ImageNet's.

    ImageNet's folders are WordNet numbers; the words are put behind them. A network whose classes nobody has named gets
    'class 0' and so on.
    """
    imagenet = dict(line.split(' ', 1) for line in IMAGENET_CLASS_FILE.read_text(encoding='utf-8').splitlines())
    fallback = list(imagenet) if num_classes == len(imagenet) else [f'class {index}' for index in range(num_classes)]
    candidates = (read_class_names(folder) for folder in folders)
    names = next((names for names in candidates if names and len(names) == num_classes), fallback)
    return [f'{name} {imagenet[name]}' if name in imagenet else name for name in names]


def data_folders(*record_paths):
    """Where a `classes.txt` of the data would be; a path may be None."""
    return [path.parent for path in record_paths if path is not None]


def keep_class_names(folders, workspace):
    """Copy the class names of the first folder that has some to the workspace, where prediction finds them."""
    for folder in folders:
        if read_class_names(folder) and folder.resolve() != workspace.resolve():
            shutil.copy(folder / 'classes.txt', workspace / 'classes.txt')
            return
