"""`config.json`, which timm's models have beside their weights: how to prepare the images.

https://huggingface.co/docs/timm; the images' shorter side is `floor(input / crop_pct)` pixels, as in timm/data.
"""

import math
from pathlib import Path

from imagenet.reporting.json_files import read_json

SCHEMA = Path(__file__).resolve().with_name('timm_config_schema.json')
FILE = 'config.json'
# timm resamples with Pillow, which always antialiases.
FILTERS = {'bilinear': 'triangular', 'bicubic': 'cubic', 'lanczos': 'lanczos'}
LARGEST_VALUE = 255


def read_timm_architecture(path):
    """Return timm's name of the network of a weight file; None if no `config.json` beside it gives one."""
    content = _read(path)
    return content and content['architecture']


def read_timm_config(path):
    """Return the options of the images that a weight file is for; {} if no `config.json` beside it gives them.

    Raises:
        UserError: the file is damaged.
    """
    content = _read(path)
    if content is None:
        return {}
    config = content['pretrained_cfg']
    shape = tuple(config['input_size'])
    return {
        'image_shape': shape,
        'data_val_resize': math.floor(shape[1] / config['crop_pct']),
        'interpolation': FILTERS[config['interpolation']],
        'rgb_mean': tuple(LARGEST_VALUE * value for value in config['mean']),
        'rgb_std': tuple(LARGEST_VALUE * value for value in config['std']),
    }


def _read(path):
    beside = Path(path).with_name(FILE)
    if not beside.is_file():
        return None
    content = read_json(beside, SCHEMA, "a description of one of timm's networks")
    # Other packages have files of this name, too.
    return content if {'architecture', 'pretrained_cfg'} <= set(content) else None
