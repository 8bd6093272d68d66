"""ResNets of torchvision (https://github.com/pytorch/vision) and those that took over its names.

These are timm (https://github.com/huggingface/pytorch-image-models) and GluonCV (https://github.com/dmlc/gluon-cv). The
stride of a bottleneck is on its 3x3 convolution. Deep stems are sequences with activations in between, and shortcuts
that average begin with the pooling.
"""

from imagenet.checkpoints.importers.places import (
    BLOCK,
    CANONICAL,
    LAST,
    OUTPUT,
    PYTORCH_LEAVES,
    SHORTCUT,
    TRUNK,
    Pattern,
    find_places,
    stages_of_blocks,
)

PATTERNS = (
    Pattern(TRUNK, r'conv1(?:\.(?P<order>\d))?'),
    Pattern(TRUNK, r'bn1', LAST),
    Pattern(BLOCK, r'layer(?P<block>\d\.\d+)\.(?:conv|bn)(?P<order>\d)'),
    Pattern(SHORTCUT, r'layer(?P<block>\d\.\d+)\.downsample\.(?P<order>\d)'),
    Pattern(OUTPUT, r'fc'),
)


def averages_shortcuts(names):
    return any(name.endswith('.downsample.2.running_mean') for name in names)


def pytorch_names(canonical):
    """Return the name of each array in these packages, given the canonical names of a ResNet."""
    places, stages = find_places(canonical, CANONICAL), stages_of_blocks(canonical)
    last_of_stem = max(place.number for place in places.values() if place.part == TRUNK)
    averages = any(name.endswith('.downsample.2.gamma') for name in canonical)

    def module_of(place):
        if place.part == OUTPUT:
            return 'fc'
        if place.part == TRUNK:
            if place.is_norm and place.number == last_of_stem:
                return 'bn1'
            # In a deep stem: convolution, batch norm, activation.
            return f'conv1.{3 * place.number + place.is_norm}' if last_of_stem else 'conv1'
        stage, block = stages[place.block]
        if place.part == SHORTCUT:
            return f'layer{stage + 1}.{block}.downsample.{averages + place.is_norm}'
        return f'layer{stage + 1}.{block}.{"bn" if place.is_norm else "conv"}{place.number + 1}'

    return {name: f'{module_of(place)}.{PYTORCH_LEAVES.get(place.leaf, place.leaf)}' for name, place in places.items()}
