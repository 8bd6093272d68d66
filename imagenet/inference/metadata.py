"""The JSON that describes an exported or quantized network."""

from pathlib import Path

# What a graph is of; an int8 network has to be loaded with the options that it was made with.
NETWORK_OPTIONS = ('arch', 'num_layers', 'num_groups', 'num_classes', 'batchnorm_eps', 'image_shape', 'input_layout')


def network_options(args):
    """What tells this network from others, as JSON has it."""
    options = {name: getattr(args, name) for name in NETWORK_OPTIONS}
    return {**options, 'image_shape': list(args.image_shape)}


def describe_input(args, names):
    """What whoever runs an exported graph must know: how an image becomes its input, and what its output means.

    Args:
        names: of the classes.
    """
    return {
        'input': {
            'name': 'data',
            'dtype': 'float32',
            'layout': args.input_layout,
            'channels': 'red, green, blue' + ', 0' * (args.image_shape[0] - 3),
            'shorter_side': args.data_val_resize,
            'centre_crop': list(args.image_shape[1:]),
            'values': '(0 to 255 - mean) / std',
            'mean': list(args.rgb_mean),
            'std': list(args.rgb_std),
        },
        'output': 'logits, one for each class',
        'classes': names,
    }


def output_prefix(args):
    """What the names of files made from `--load` begin with."""
    return args.output if args.output is not None else Path(args.load).with_suffix('')
