"""What a parameter file says about its network, so that `--load` builds the right one."""

from imagenet.checkpoints.importers.nvidia_examples import describe_original
from imagenet.checkpoints.parameters import read_arrays
from imagenet.checkpoints.trailer import read_trailer
from imagenet.common.errors import UserError
from imagenet.common.options import as_text, option_name

# With other values of these options, the parameters would compute another function.
FIXED_OPTIONS = ('arch', 'num_layers', 'num_groups', 'num_classes', 'padding', 'batchnorm_eps')
# A network can also be applied to images that are prepared in another way than those that it was trained for.
INPUT_OPTIONS = ('image_shape', 'data_val_resize', 'interpolation', 'rgb_mean', 'rgb_std')
# Those of all versions that do not record them.
INTERPOLATION_BEFORE = 'linear'
PADDING_BEFORE = 'symmetric'
# Values of --arch that also stand for a variant, which the file then chooses.
VARIANTS = {'xception': ('xception_padded',)}


def read_description(path):
    """Return what a parameter file says about its network; {} if it says nothing.

    Files of the original of this package have no description, but their names show if the network is its Xception.

    Returns:
        A dict with values of `FIXED_OPTIONS` and `INPUT_OPTIONS` by name, and `classes`, the names of the classes.

    Raises:
        UserError: the file cannot be read, or its description is damaged.
    """
    content = read_trailer(path)
    if content is None:
        return describe_original(read_arrays(path))
    described = {'interpolation': INTERPOLATION_BEFORE, **content}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in described.items()}


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
        raise UserError(f'--load {path}: parameters of another network: {"; ".join(contradictions)}')
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


def _agrees(name, value, described):
    if name == 'image_shape':
        # The number of channels only concerns the network in memory.
        return value[1:] == described[1:]
    return value == described or (name == 'arch' and described in VARIANTS.get(value, ()))


def _compared(name, options, description):
    return f'{option_name(name)} {as_text(options[name])} instead of {as_text(description[name])}'
