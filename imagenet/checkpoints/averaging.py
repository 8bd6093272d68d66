"""Averages networks that were trained from the same initial values, parameter by parameter.

Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing
inference time" (arXiv:2203.05482), section 2: the uniform soup.
"""

import numpy as np

from imagenet.checkpoints.description import description_differences
from imagenet.checkpoints.parameters import array_differences, read_arrays
from imagenet.checkpoints.trailer import read_trailer
from imagenet.common.errors import UserError
from imagenet.runtime.compat import mx

FEWEST_FILES = 2
DIFFERENCES_SHOWN = 3
# How names start in the parameters of a symbol, and in some files of the original of this package.
NOT_CANONICAL = ('arg:', 'aux:', '_net.')


def average_networks(paths, announce):
    """Return the average of parameter files: canonical arrays by name, and what the first file says about its network.

    Args:
        announce: a function that is called with a line about each file that does not describe its network.

    Returns:
        The arrays, and a description for `write_arrays`, or None if no file has one.

    Raises:
        UserError: there are too few files; a file cannot be read, or has no average with the others.
    """
    if len(paths) < FEWEST_FILES:
        raise UserError(f'{", ".join(map(str, paths))}: an average needs at least {FEWEST_FILES} files')
    description = _common_description(paths, announce)
    return _means(paths), description


def _common_description(paths, announce):
    """Return the content of the first trailer, which those of the other files must not contradict; None without one."""
    contents = {path: read_trailer(path, subject=path) for path in paths}
    described = [path for path in paths if contents[path] is not None]
    if not described:
        return None
    first = described[0]
    for path in described:
        differences = description_differences(contents[path], contents[first])
        if differences:
            raise UserError(f'{path}: of another network than {first}: {_shown(differences)}')
    for path in paths:
        if contents[path] is None:
            announce(f'{path} does not describe its network: assuming that it is the one of {first}')
    return contents[first]


def _shown(differences):
    more = len(differences) - DIFFERENCES_SHOWN
    return '; '.join(differences[:DIFFERENCES_SHOWN]) + (f'; and {more} more' if more > 0 else '')


def _means(paths):
    """Return the mean of each array, computed in float64. Only one file is in memory at a time."""
    sums = {name: array.astype(np.float64) for name, array in _read_canonical(paths[0]).items()}
    shapes = {name: array.shape for name, array in sums.items()}
    for path in paths[1:]:
        arrays = _read_canonical(path)
        differences = array_differences(arrays, shapes)
        if differences:
            raise UserError(f'{path}: parameters of another network than {paths[0]}: {"; ".join(differences)}')
        for name, array in arrays.items():
            sums[name] += array
    return {name: mx.nd.array(total / len(paths), dtype='float32') for name, total in sums.items()}


def _read_canonical(path):
    """Return the arrays of a file that this package wrote, as NumPy arrays by name."""
    arrays = {name: array.asnumpy() for name, array in read_arrays(path, subject=path).items()}
    for name, array in arrays.items():
        if array.dtype != np.float32 or name.startswith(NOT_CANONICAL):
            raise UserError(
                f'{path}: {name} ({array.dtype}) is not from a checkpoint; name .params files that training runs saved'
            )
        if not np.isfinite(array).all():
            raise UserError(f'{path}: {name} has NaN or infinite values; leave this file out')
    return arrays
