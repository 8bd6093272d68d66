"""The packages whose files `--load` takes. A new one needs a file in this folder and an entry here."""

from collections import namedtuple
from functools import partial

from imagenet.checkpoints.importers import (
    efficientnet_pytorch,
    gluon_prefixes,
    gluon_zoo,
    pytorch_resnet,
    timm_efficientnet,
    torchvision_efficientnet,
)
from imagenet.checkpoints.importers.mxnet_symbol import is_symbol, read_symbol_of, without_kinds
from imagenet.checkpoints.importers.nvidia_examples import is_own
from imagenet.checkpoints.importers.places import CANONICAL, OUTPUT, find_places, weight_shapes
from imagenet.checkpoints.importers.residual_graph import OtherNetworkError, read_residual_graph
from imagenet.checkpoints.importers.timm_config import read_timm_config
from imagenet.common.errors import UserError

NEAREST_SHOWN = 3
SYMBOL = "MXNet's symbols"

# title: for messages.
# find_places: a function of the arrays' shapes by name that returns the `Place` of those that it knows, by name.
# stride_on_3x3, averages_shortcuts: functions of shapes by name that say what shapes do not show of a ResNet.
# assumed: a function of a file's path and of --arch that returns options that its arrays do not determine.
Source = namedtuple('Source', 'title find_places stride_on_3x3 averages_shortcuts assumed')


def by_patterns(patterns):
    return lambda shapes: find_places(shapes, patterns)


def always(value):
    return lambda *_: value


def efficientnet(title, module, assumed):
    return Source(title, by_patterns(module.PATTERNS), always(True), always(False), assumed)


OWN = Source('this package', by_patterns(CANONICAL), always(True), always(False), always({}))
SOURCES = (
    Source(
        'torchvision, timm or GluonCV',
        by_patterns(pytorch_resnet.PATTERNS),
        always(True),
        pytorch_resnet.averages_shortcuts,
        lambda path, arch: read_timm_config(path),
    ),
    efficientnet('torchvision', torchvision_efficientnet, torchvision_efficientnet.assumed),
    efficientnet('timm', timm_efficientnet, timm_efficientnet.assumed),
    efficientnet('efficientnet-pytorch', efficientnet_pytorch, efficientnet_pytorch.assumed),
    Source(
        "MXNet's model zoo or GluonCV",
        by_patterns(gluon_zoo.PATTERNS),
        gluon_zoo.stride_on_3x3,
        always(False),
        always({}),
    ),
    Source(
        "MXNet's model zoo or GluonCV, with prefixes",
        gluon_prefixes.find_places,
        gluon_prefixes.stride_on_3x3,
        gluon_prefixes.averages_shortcuts,
        always({}),
    ),
    OWN,
)

# title: of the source. places: the `Place` of each array by name. weights: `WeightShapes`.
# stride_on_3x3, averages_shortcuts: what shapes do not show of a ResNet.
# known, assumed: options that the file determines, and a function of --arch that returns those that it does not.
# unit_gammas: names of gammas that count as 1, whatever their values.
Recognized = namedtuple(
    'Recognized', 'title places weights stride_on_3x3 averages_shortcuts known assumed unit_gammas', defaults=((),)
)


def recognize(arrays, path):
    """Return the `Recognized` source of a file's arrays; None for this package, its original, and unusual symbols.

    Raises:
        UserError: no source has such arrays; the message names the nearest ones and what does not fit.
    """
    if is_symbol(arrays):
        return _recognize_symbol(without_kinds(arrays), path)
    if is_own(arrays):
        return None
    shapes = {name: array.shape for name, array in arrays.items()}
    found = []
    for source in SOURCES:
        places = source.find_places(shapes)
        weights = weight_shapes({place: shapes[name] for name, place in places.items()})
        if weights is not None and len(set(places.values())) == len(shapes):
            hints = source.stride_on_3x3(shapes), source.averages_shortcuts(shapes)
            assumed = partial(source.assumed, path)
            return None if source is OWN else Recognized(source.title, places, weights, *hints, {}, assumed)
        found.append((source, places))
    found.sort(key=lambda pair: len(pair[1]), reverse=True)
    nearest = '; '.join(_misfit(shapes, *pair) for pair in found[:NEAREST_SHOWN])
    raise UserError(f'--load {path}: of no package that this one knows ({nearest})')


def _misfit(shapes, source, places):
    """Return what keeps arrays from being those of a source."""
    unknown = [name for name in shapes if name not in places]
    what = f'such as {unknown[0]}' if unknown else 'and a part of the network is missing'
    return f'{source.title}: {len(unknown)} of {len(shapes)} names do not fit, {what}'


def _recognize_symbol(arrays, path):
    try:
        graph = read_residual_graph(read_symbol_of(path))
        known = {'batchnorm_eps': graph.eps(), **graph.input_options(arrays)}
    except (OtherNetworkError, KeyError):
        return None
    places = graph.places()
    if set(arrays) != {*places, *(graph.input_norm.others if graph.input_norm else ())}:
        return None
    weights = weight_shapes({place: arrays[name].shape for name, place in places.items()})
    hints = graph.stride_on_3x3(), graph.averages_shortcuts()
    return weights and Recognized(SYMBOL, places, weights, *hints, known, always({}), graph.unit_gammas())


def place_arrays(arrays, recognized, canonical):
    """Return the arrays of a recognized file under canonical names; arrays that have none keep theirs.

    Biases of convolutions before a batch norm become part of its running mean.

    Args:
        canonical: the canonical names of the network that they are for.
    """
    names = {place: name for name, place in find_places(canonical, CANONICAL).items()}
    placed = {recognized.places[name]: array for name, array in arrays.items() if name in recognized.places}
    for name in recognized.unit_gammas:
        place = recognized.places[name]
        placed[place] = placed[place] * 0 + 1
    for place in [place for place in placed if place.leaf == 'bias' and place.part != OUTPUT]:
        mean = place._replace(is_norm=True, leaf='running_mean')
        if mean in placed and place not in names:
            placed[mean] = placed[mean] - placed.pop(place)
    originals = {place: name for name, place in recognized.places.items()}
    return {names.get(place, originals[place]): array for place, array in placed.items()}
