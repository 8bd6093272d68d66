"""TFRecords, written byte by byte as TensorFlow would."""

import struct

import crc32c


def write_shards(folder, prefix, examples, num_shards):
    """Write Examples to files such as train-00000-of-00002, alternately; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f'{prefix}-{number:05}-of-{num_shards:05}' for number in range(num_shards)]
    for number, path in enumerate(paths):
        path.write_bytes(b''.join(map(record, examples[number::num_shards])))
    return paths


def record(payload):
    length = struct.pack('<Q', len(payload))
    return length + masked_checksum(length) + payload + masked_checksum(payload)


def masked_checksum(content):
    crc = crc32c.crc32c(content)
    return struct.pack('<I', (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def example(features):
    """Return a tf.train.Example with features `image/NAME`.

    Args:
        features: bytes, a number, or a list of numbers, by NAME; features that are None are left out.
    """
    entries = (
        field(1, f'image/{name}'.encode()) + field(2, feature(value))
        for name, value in features.items()
        if value is not None
    )
    return field(1, b''.join(field(1, entry) for entry in entries))


def feature(value):
    if isinstance(value, bytes):
        return field(1, field(1, value))
    values = value if isinstance(value, list) else [value]
    if all(isinstance(number, int) for number in values):
        return field(3, field(1, b''.join(map(varint, values))))
    return field(2, field(1, struct.pack(f'<{len(values)}f', *values)))


def field(number, content):
    """Return a field with bytes."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value):
    value &= (1 << 64) - 1
    parts = []
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def imagenet_example(path, label, synset, **changed):
    """Return the Example that the converter for TPUs makes of an image file, with some features changed."""
    features = {
        'height': 24,
        'width': 32,
        'colorspace': b'RGB',
        'channels': 3,
        'class/label': label,
        'class/synset': synset,
        'class/text': b'some words',
        'object/bbox/xmin': [0.25, 0.5],
        'object/class/label': [1, 1],
        'format': b'JPEG',
        'filename': path.name.encode(),
        'encoded': path.read_bytes(),
    }
    return example({**features, **changed})


def write_tree_as_tfrecords(tree, folder, num_shards=3):
    """Write the images of tree/train and tree/val not sorted, with the labels of sorted classes."""
    for split, prefix in (('train', 'train'), ('val', 'validation')):
        classes = sorted(path.name for path in (tree / split).iterdir())
        paths = sorted((tree / split).glob('*/*'), key=lambda path: (path.name[::-1], path.parent.name))
        examples = [
            imagenet_example(path, classes.index(path.parent.name) + 1, path.parent.name.encode()) for path in paths
        ]
        write_shards(folder, prefix, examples, num_shards)
    return folder
