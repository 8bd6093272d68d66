"""`--load`: what it names, and setting a network's parameters to those of any supported file."""

import glob
import re
from dataclasses import dataclass
from pathlib import Path

from imagenet.checkpoints.description import FINETUNE_ADVICE
from imagenet.checkpoints.importers.mxnet_symbol import is_symbol, match_symbol, without_kinds
from imagenet.checkpoints.importers.nvidia_examples import canonical_name
from imagenet.checkpoints.importers.sources import place_arrays, recognize
from imagenet.checkpoints.parameters import (
    OUTPUT_BIAS,
    OUTPUT_WEIGHT,
    array_differences,
    canonical_shapes,
    set_canonical,
    to_canonical,
)
from imagenet.checkpoints.weight_file import read_weights
from imagenet.common.errors import UserError

WILDCARDS = '*?['
INT8_FILE = re.compile(r'(.+-int8)(?:-symbol\.json|\.params|\.onnx|\.json)?')


@dataclass(frozen=True)
class LoadedNetwork:
    """The network that `--load` names: a parameter file, or an int8 network by one of its files or their common prefix.

    Attributes:
        path: the path as the user gave it.
        int8_prefix: common prefix of the int8 network's files; None for a parameter file.
    """

    path: Path
    int8_prefix: str = None

    @classmethod
    def of(cls, text):
        """Return the network that a command-line argument names; an argparse type."""
        match = INT8_FILE.fullmatch(text)
        return cls(Path(text), match and match.group(1))

    def __str__(self):
        return str(self.path)

    @property
    def is_pattern(self):
        """Whether the path is a pattern, as shells have them, and not the name of a file."""
        return not set(str(self.path)).isdisjoint(WILDCARDS) and not self.path.exists()

    def matching(self):
        """Return the networks that the pattern matches, in the order of their names."""
        pattern = str(self.path) if self.int8_prefix is None else f'{self.int8_prefix}.json'
        paths = glob.glob(pattern, recursive=True)  # noqa: PTH207, Path.glob takes no absolute ones
        networks = map(LoadedNetwork.of, sorted(paths))
        # An int8 network has several files.
        return list({network.int8_prefix or network.path: network for network in networks}.values())


def load_parameters(net, path, with_output=True):
    """Set the network's parameters, which must be initialized, to the values of a file.

    Args:
        with_output: whether to set the output layer, too. Otherwise that of the file may be for any number of classes.

    Raises:
        UserError: the file cannot be read, or belongs to another network; the first differences are named.
    """
    arrays = import_arrays(read_weights(path).arrays, net, path)
    shapes = canonical_shapes(net)
    shapes_of_any_classes = {**shapes, **_output_shapes(arrays, shapes)}
    differences = array_differences(arrays, shapes if with_output else shapes_of_any_classes)
    if differences:
        advice = '' if array_differences(arrays, shapes_of_any_classes) else f'; {FINETUNE_ADVICE}'
        raise UserError(f'--load {path}: parameters of another network: {"; ".join(differences)}{advice}')
    left_out = () if with_output else (OUTPUT_WEIGHT, OUTPUT_BIAS)
    set_canonical(net, {name: array for name, array in arrays.items() if name not in left_out})


def _output_shapes(arrays, shapes):
    """Return the shapes that the output layer would have with as many classes as in the arrays of a file, by name."""
    names = [name for name in (OUTPUT_WEIGHT, OUTPUT_BIAS) if name in arrays]
    return {name: (*arrays[name].shape[:1], *shapes[name][1:]) for name in names}


def count_classes(path):
    """Return the number of classes of a file's network; None if the file does not show it."""
    matrices = [array for array in read_weights(path).arrays.values() if array.ndim == 2]
    return matrices[0].shape[0] if len(matrices) == 1 else None


def import_arrays(arrays, net, path):
    """Return the canonical arrays of a file, whichever package wrote it.

    The names of this package's original depend on how a network was built: they may start with `_net.`, a batch norm
    may be a child of its BN-ReLU (`features.1.0.gamma`, `bn_add_relu.bn.gamma`), and a transpose may have its own index
    (`features.0.1.weight`). Weights may be (out, height, width, in), float16, and for four input channels.

    Arrays that match nothing keep their names and shapes, and `load_parameters` reports them.
    """
    expected = canonical_shapes(net)
    recognized = None if set(arrays) == set(expected) else recognize(arrays, path)
    if is_symbol(arrays):
        arrays = without_kinds(arrays)
        renamed = place_arrays(arrays, recognized, expected) if recognized else match_symbol(arrays, net, path)
    elif recognized:
        renamed = place_arrays(arrays, recognized, expected)
    else:
        renamed = {canonical_name(name, expected): array for name, array in arrays.items()}
    in_layout = {
        layout: {name: to_canonical(name, array, layout) for name, array in renamed.items()}
        for layout in ('NCHW', 'NHWC')
    }

    def fits(layout):
        weights = {name: array for name, array in in_layout[layout].items() if array.ndim == 4}
        return all(array.shape == expected.get(name, array.shape) for name, array in weights.items())

    # A file has one layout. Some weights have the same shape in both.
    return in_layout['NHWC' if fits('NHWC') and not fits('NCHW') else 'NCHW']
