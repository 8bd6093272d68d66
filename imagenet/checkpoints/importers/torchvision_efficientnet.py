"""EfficientNets of torchvision: https://github.com/pytorch/vision, torchvision/models/efficientnet.py."""

from imagenet.checkpoints.importers.places import BLOCK, OUTPUT, TRUNK, Pattern

PATTERNS = (
    Pattern(TRUNK, r'features\.(?P<order>[08]\.[01])'),
    # Squeeze-and-excitation has `fc1` and `fc2` instead of numbers.
    Pattern(BLOCK, r'features\.(?P<block>[1-7]\.\d+)\.block\.(?P<order>\d\.(?:[01]|fc[12]))'),
    Pattern(OUTPUT, r'classifier\.1'),
)

# By architecture: batch norm's epsilon, and the images' side and shorter side before the crop; those of the weights
# `IMAGENET1K_V1`.
SETTINGS = {
    'efficientnet_b0': (1e-5, 224, 256),
    'efficientnet_b1': (1e-5, 240, 256),
    'efficientnet_b2': (1e-5, 288, 288),
    'efficientnet_b3': (1e-5, 300, 320),
    'efficientnet_b4': (1e-5, 380, 384),
    'efficientnet_b5': (1e-3, 456, 456),
    'efficientnet_b6': (1e-3, 528, 528),
    'efficientnet_b7': (1e-3, 600, 600),
}


def assumed(path, arch):
    """Return options that the arrays do not determine."""
    eps, side, shorter_side = SETTINGS[arch]
    return {
        'padding': 'symmetric',
        'batchnorm_eps': eps,
        'image_shape': (3, side, side),
        'data_val_resize': shorter_side,
        'interpolation': 'cubic',
    }
