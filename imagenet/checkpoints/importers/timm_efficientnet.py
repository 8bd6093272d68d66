"""EfficientNets of timm: https://github.com/huggingface/pytorch-image-models, timm/models/efficientnet.py.

Variants that were trained in TensorFlow (`tf_…`) have the same names.
"""

from pathlib import Path

from imagenet.checkpoints.importers.places import (
    BLOCK,
    CANONICAL,
    LAST,
    OUTPUT,
    PYTORCH_LEAVES,
    TRUNK,
    Pattern,
    find_places,
    stages_of_blocks,
)
from imagenet.checkpoints.importers.timm_config import read_timm_architecture, read_timm_config

IMAGENET = {'rgb_mean': (123.675, 116.28, 103.53), 'rgb_std': (58.395, 57.12, 57.375)}
HALVES = {'rgb_mean': (127.5,) * 3, 'rgb_std': (127.5,) * 3}
# The images of these are larger in timm; side, and shorter side before the crop.
LARGER = {'efficientnet_lite3': (300, 331), 'efficientnet_lite4': (380, 413)}
FROM_TENSORFLOW = {'padding': 'same', 'batchnorm_eps': 1e-3}
FROM_PYTORCH = {'padding': 'symmetric', 'batchnorm_eps': 1e-5}

PATTERNS = (
    Pattern(TRUNK, r'conv_stem|bn1', (0,)),
    # Blocks of the first stage do not expand: there, `conv_pw` is the projection.
    Pattern(BLOCK, r'blocks\.(?P<block>0\.\d+)\.conv_pw', LAST),
    Pattern(BLOCK, r'blocks\.(?P<block>[1-6]\.\d+)\.conv_pw', (0,)),
    Pattern(BLOCK, r'blocks\.(?P<block>[0-6]\.\d+)\.conv_dw', (1,)),
    Pattern(BLOCK, r'blocks\.(?P<block>[0-6]\.\d+)\.se\.conv_reduce', (2,)),
    Pattern(BLOCK, r'blocks\.(?P<block>[0-6]\.\d+)\.se\.conv_expand', (3,)),
    Pattern(BLOCK, r'blocks\.(?P<block>[1-6]\.\d+)\.conv_pwl', LAST),
    Pattern(BLOCK, r'blocks\.(?P<block>[0-6]\.\d+)\.bn(?P<order>\d)'),
    Pattern(TRUNK, r'conv_head|bn2', LAST),
    Pattern(OUTPUT, r'classifier'),
)

SQUEEZE_EXCITATION = ('se.conv_reduce', 'se.conv_expand')


def assumed(path, arch):
    """Return options that the arrays do not determine: timm's name of the network does, or else the file's name."""
    name = read_timm_architecture(path) or Path(path).name
    is_from_tensorflow = name.startswith('tf_')
    values = HALVES if is_from_tensorflow and arch.startswith('efficientnet_lite') else IMAGENET
    trained = FROM_TENSORFLOW if is_from_tensorflow else FROM_PYTORCH
    sizes = {}
    if arch in LARGER:
        side, shorter_side = LARGER[arch]
        sizes = {'image_shape': (3, side, side), 'data_val_resize': shorter_side}
    return {'interpolation': 'cubic', **trained, **values, **sizes, **read_timm_config(path)}


def pytorch_names(canonical):
    """Return timm's name of each array, given the canonical names of an EfficientNet."""
    places, stages = find_places(canonical, CANONICAL), stages_of_blocks(canonical)
    has_squeeze = any('.gate.' in name for name in canonical)

    def module_of(place):
        if place.part == OUTPUT:
            return 'classifier'
        if place.part == TRUNK:
            return (('conv_stem', 'conv_head'), ('bn1', 'bn2'))[place.is_norm][place.number]
        stage, block = stages[place.block]
        squeeze = SQUEEZE_EXCITATION if has_squeeze else ()
        layers = ('conv_pw', 'conv_dw', *squeeze, 'conv_pwl') if stage else ('conv_dw', *squeeze, 'conv_pw')
        return f'blocks.{stage}.{block}.{f"bn{place.number + 1}" if place.is_norm else layers[place.number]}'

    return {name: f'{module_of(place)}.{PYTORCH_LEAVES.get(place.leaf, place.leaf)}' for name, place in places.items()}
