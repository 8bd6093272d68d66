"""What a file of weights says about its network, so that `--load` builds the right one."""

from dataclasses import dataclass, field

from imagenet.checkpoints.importers.nvidia_examples import describe_original
from imagenet.checkpoints.importers.sources import recognize
from imagenet.checkpoints.trailer import read_trailer
from imagenet.checkpoints.weight_file import read_weights
from imagenet.common.errors import UserError
from imagenet.common.options import as_text, option_name
from imagenet.common.wordnet import is_same_class

# With other values of these options, the parameters would compute another function.
FIXED_OPTIONS = ('arch', 'num_layers', 'num_groups', 'num_classes', 'padding', 'batchnorm_eps')
# A network can also be applied to images that are prepared in another way than those that it was trained for.
INPUT_OPTIONS = ('image_shape', 'data_val_resize', 'interpolation', 'rgb_mean', 'rgb_std')
# Those of all versions that do not record them.
INTERPOLATION_BEFORE = 'linear'
PADDING_BEFORE = 'symmetric'
FINETUNE_ADVICE = 'to train it for other classes, add --finetune'
# Values of --arch that also stand for a variant, which the file then chooses.
VARIANTS = {'xception': ('xception_padded',)}


@dataclass(frozen=True)
class FileDescription:
    """What a file says about its network.

    Attributes:
        known: values of `FIXED_OPTIONS` and `INPUT_OPTIONS` by name, and `classes`, the names of the classes.
        assumed: values of the same options that usually go with such files.
        source: the package that the file is from; None for this package and its original.
    """

    known: dict = field(default_factory=dict)
    assumed: dict = field(default_factory=dict)
    source: str = None


def read_description(path, identify):
    """Return the `FileDescription` of a file of weights.

    Files of the original of this package have no description, but their names show if the network is its Xception.

    Args:
        identify: the function in architectures/identification.py.

    Raises:
        UserError: the file cannot be read, is damaged, or is of an unknown source.
    """
    # Without reading the arrays, if that is enough.
    content = read_trailer(path)
    if content is None:
        arrays, content = read_weights(path)
    if content is not None:
        described = {'interpolation': INTERPOLATION_BEFORE, **content}
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in described.items()}
        return FileDescription(values)
    found = recognize(arrays, path)
    if found is None:
        return FileDescription(describe_original(arrays))
    options = identify(found.weights, found.stride_on_3x3, found.averages_shortcuts)
    if options is None:
        raise UserError(
            f'--load {path}: a network of {found.title}, but no --arch has {len(found.weights.blocks)} blocks of these '
            'shapes'
        )
    return FileDescription({**options, **found.known}, found.assumed(options['arch']), found.title)


def complete_options(options, description, path):
    """Take the options that were left out from the description of a file.

    Args:
        options: values by name; None if the option was left out.
        description: the result of `read_description`.
        path: the file, for messages.

    Returns:
        The options that change, by name, and lines for the log.

    Raises:
        UserError: an option contradicts the file.
    """
    given = {name for name in description if options.get(name) is not None}
    different = {name for name in given if not _agrees(name, options[name], description[name])}
    contradictions = [_compared(name, options, description) for name in FIXED_OPTIONS if name in different]
    if contradictions:
        advice = f'; {FINETUNE_ADVICE}' if different.intersection(FIXED_OPTIONS) == {'num_classes'} else ''
        raise UserError(f'--load {path}: parameters of another network: {"; ".join(contradictions)}{advice}')
    # With images of another size, the length of their shorter side in the file does not apply.
    taken = [name for name in (*FIXED_OPTIONS, *INPUT_OPTIONS) if name in description and name not in given]
    if 'image_shape' in different and 'data_val_resize' in taken:
        taken.remove('data_val_resize')
    changes = {name: description[name] for name in taken}
    if description.get('arch') in VARIANTS.get(options['arch'], ()):
        changes['arch'] = description['arch']
    unlike = [_compared(name, options, description) for name in INPUT_OPTIONS if name in different]
    notes = [f'unlike the images that --load {path} was trained for: {"; ".join(unlike)}'] if unlike else []
    return changes, notes


def description_differences(found, expected):
    """Return how the contents of two trailers contradict each other, as texts.

    What only one of them says is no contradiction.
    """
    found, expected = ({'interpolation': INTERPOLATION_BEFORE, **content} for content in (found, expected))
    options = [name for name in (*FIXED_OPTIONS, *INPUT_OPTIONS) if name in found and name in expected]
    classes = enumerate(zip(found.get('classes', ()), expected.get('classes', ())))
    return [
        *(_compared(name, found, expected) for name in options if found[name] != expected[name]),
        *(
            f'class {label} {name} instead of {other}'
            for label, (name, other) in classes
            if not is_same_class(name, other)
        ),
    ]


def _agrees(name, value, described):
    if name == 'image_shape':
        # The number of channels only concerns the network in memory.
        return value[1:] == described[1:]
    return value == described or (name == 'arch' and described in VARIANTS.get(value, ()))


def _compared(name, options, description):
    return f'{option_name(name)} {as_text(options[name])} instead of {as_text(description[name])}'
