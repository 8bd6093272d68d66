"""Data loaders as train.py makes them, and the data they yield."""

import argparse
import struct
from collections import namedtuple

import cv2
import numpy as np

import dali
import data
from imagenet.common.modes import Mode
from imagenet.common.options import with_changes, with_defaults
from imagenet.input_pipeline import auto_augment, mxnet_backend
from imagenet.runtime.compat import mx

Processes = namedtuple('Processes', 'rank size')
RECORD_BACKENDS = ('mxnet', 'dali-cpu')


def make_args(folder=None, backend='mxnet', **changes):
    parser = argparse.ArgumentParser()
    data.add_data_args(parser)
    data.add_augmentation_args(parser)
    auto_augment.add_auto_augment_args(parser)
    dali.add_dali_args(parser)
    mxnet_backend.add_mxnet_data_args(parser)
    args = parser.parse_args(['--image-shape', '3,32,32', '--data-val-resize', '32', '--data-backend', backend])
    args = with_defaults(args, data.INPUT_DEFAULTS)
    if folder:
        args.data_train, args.data_val = folder / 'train.rec', folder / 'val.rec'
    settings = {
        'mode': Mode.TRAIN_VAL,
        'batch_size': 16,
        'seed': 1,
        'device': 'cpu',
        'gpus': [0],
        'num_classes': None,
        'val_image_size': None,
        'input_layout': 'NCHW',
        'dtype': 'float32',
    }
    for name, value in {**settings, **changes}.items():
        setattr(args, name, value)
    changes, _ = data.choose_backend(args)
    return with_changes(args, **changes)


def load(args, rank=0, size=1):
    """Return the (training, validation) iterators of one of several processes."""
    data.check_data_args(args)
    return data.get_data_loader(args)(args, Processes(lambda: rank, lambda: size))


def read(iterator, epoch=0):
    """Return the images and labels of an epoch on all devices, without padding."""
    iterator.reset(epoch)
    images, labels = [], []
    for batches in iterator:
        assert len(batches) == iterator.num_devices
        for batch in batches:
            counted = iterator.batch_size - batch.pad
            images.append(batch.data[0][:counted].asnumpy())
            labels.extend(batch.label[0][:counted].asnumpy().astype(int).tolist())
    return np.concatenate(images), labels


def without_augmentation(args):
    """Turn off the augmentation of training images; return the options."""
    args.random_mirror = 0
    args.min_random_area = args.max_random_area = 1
    args.min_random_aspect_ratio = args.max_random_aspect_ratio = 1
    return args


def write_records(folder, images, labels=None, split='train', extension='.png'):
    """Write a record file; return its path.

    Args:
        images: encoded images, or uint8 arrays `(H, W, 3)` in the order blue, green, red.
        labels: for each image a number or an array of numbers; all are 0 by default.
    """
    writer = mx.recordio.MXIndexedRecordIO(str(folder / f'{split}.idx'), str(folder / f'{split}.rec'), 'w')
    for key, image in enumerate(images):
        encoded = image if isinstance(image, bytes) else cv2.imencode(extension, image)[1].tobytes()
        writer.write_idx(key, _pack(labels[key] if labels else 0, key, encoded))
    writer.close()
    return folder / f'{split}.rec'


def _pack(label, key, encoded):
    if np.ndim(label) == 0:
        return mx.recordio.pack(mx.recordio.IRHeader(0, float(label), key, 0), encoded)
    # MXNet's own function fails for arrays since NumPy 2.3.
    return struct.pack('<IfQQ', len(label), 0, key, 0) + np.asarray(label, dtype='<f4').tobytes() + encoded


def raw_pixels(args):
    """Turn off normalization; return the options."""
    args.rgb_mean, args.rgb_std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return args
