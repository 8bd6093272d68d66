"""Parameters on disk.

A file holds float32 arrays under names that follow from the network's structure (`features.3.0.body.0.weight`), weights
as (out, in, height, width). Whatever trained it, anything can load it.
"""

import struct
from pathlib import Path

from compat import mx
from errors import UserError
from files import write_atomically

# The first 8 bytes of MXNet's parameter files (kMXAPINDArrayListMagic in its ndarray.cc).
PARAMETER_FILE_MAGIC = struct.pack('<Q', 0x112)
NAMES_SHOWN = 3


def named_parameters(net):
    """The network's parameters by canonical name, running statistics included."""
    return net._collect_params_with_prefix()


def save_parameters(net, path):
    """Writes the network's values in canonical form, atomically."""
    arrays = {name: param.data(param.list_ctx()[0]) for name, param in named_parameters(net).items()}
    canonical = {name: array.as_in_context(mx.cpu()).astype('float32') for name, array in arrays.items()}
    write_atomically(path, lambda temporary: mx.nd.save(str(temporary), canonical))


def read_arrays(path):
    """A parameter file's arrays by name.

    Raises:
        UserError: the file is missing, or not a parameter file, or damaged.
    """
    path = Path(path)
    try:
        with path.open('rb') as file:
            magic = file.read(len(PARAMETER_FILE_MAGIC))
    except OSError as error:
        raise UserError(f'--load {path}: cannot read this file ({error.strerror})') from None
    if magic != PARAMETER_FILE_MAGIC:
        raise UserError(f'--load {path}: not an MXNet parameter file; name a .params file that a training run saved')
    try:
        arrays = mx.nd.load(str(path))
    except mx.base.MXNetError:
        raise UserError(f'--load {path}: this parameter file is damaged; use another checkpoint') from None
    if not isinstance(arrays, dict):
        raise UserError(f'--load {path}: its arrays have no names; name a .params file that a training run saved')
    return arrays


def load_parameters(net, path):
    """Sets the network's parameters, which must be initialised, to the values of a file.

    Raises:
        UserError: the file cannot be read, or belongs to another network; the first differences are named.
    """
    arrays = read_arrays(path)
    params = named_parameters(net)
    missing = [name for name in params if name not in arrays]
    left_over = [name for name in arrays if name not in params]
    misshapen = [
        f'{name} {arrays[name].shape} instead of {param.shape}'
        for name, param in params.items()
        if name in arrays and arrays[name].shape != param.shape
    ]
    found = {'missing': missing, 'left over': left_over, 'of another shape': misshapen}
    differences = [f'{len(names)} {what} ({_first(names)})' for what, names in found.items() if names]
    if differences:
        raise UserError(f'--load {path}: parameters of another network: {"; ".join(differences)}')
    for name, param in params.items():
        param.set_data(arrays[name].astype(param.dtype))


def _first(names):
    return ', '.join(names[:NAMES_SHOWN]) + (', …' if len(names) > NAMES_SHOWN else '')


def count_classes(path):
    """The number of classes of the network that a parameter file belongs to; None where it does not say."""
    weight = read_arrays(path).get('output.weight')
    return None if weight is None else weight.shape[0]


class CheckpointWriter:
    """Saves the best network of a run, or one every so many epochs.

    Args:
        workspace: the folder of the files `PREFIX_best.params` and `PREFIX_0010.params` (after 10 epochs).
        prefix: the beginning of the files' names.
        save_frequency: -1 for the best only, 0 for none, n for the best and one every n epochs.
    """

    def __init__(self, workspace, prefix, save_frequency):
        self._workspace = Path(workspace)
        self._prefix = prefix
        self._save_frequency = save_frequency
        self.best_top1 = None
        self.last_path = None

    def epoch_end(self, net, epochs_done, is_last, top1):
        """Saves what is due after an epoch, and returns the paths written.

        Args:
            top1: the validation accuracy, or None where the run does not validate: it then keeps its last network.
        """
        due = []
        if self._save_frequency == 0:
            return due
        if top1 is not None and (self.best_top1 is None or top1 > self.best_top1):
            self.best_top1 = top1
            due.append(self._workspace / f'{self._prefix}_best.params')
        is_periodic = self._save_frequency > 0 and epochs_done % self._save_frequency == 0
        if is_periodic or (is_last and top1 is None):
            due.append(self._workspace / f'{self._prefix}_{epochs_done:04}.params')
        for path in due:
            save_parameters(net, path)
            self.last_path = path
        return due
