"""image_header.py: what the first bytes of an image declare."""

import io

import numpy as np
import pytest
from PIL import Image

from helpers.odd_images import ORIENTATION, odd_images
from imagenet.datasets.image_header import UNCLEAR, UPRIGHT, is_cut_short, is_intact_png, read_header

FORMATS = {'MPO': 'JPEG', 'WEBP': 'WebP', 'PPM': 'PNM'}


@pytest.fixture(scope='module')
def images():
    return odd_images()


def test_headers_are_what_pillow_reads(images):
    for image in images:
        if image.shown is None:
            continue
        expected = Image.open(io.BytesIO(image.encoded))
        found = read_header(image.encoded)
        assert found[:3] == (FORMATS.get(expected.format, expected.format), *expected.size), image.name
        orientation = expected.getexif().get(ORIENTATION)
        assert found.orientation == (1 if orientation == 9 else orientation), image.name


def test_only_jpegs_that_lack_their_end_are_cut_short(images):
    for image in images:
        if image.name.startswith('JPEG') and image.encoded.startswith(b'\xff\xd8\xff'):
            is_cut = 'missing' in image.name or 'cut short' in image.name
            assert is_cut_short(image.encoded) == is_cut, image.name


def test_end_marker_of_a_thumbnail_does_not_count(images):
    jpeg = next(image.encoded for image in images if image.name == 'JPEG, square')
    with_thumbnail = jpeg[:2] + b'\xff\xe1\x00\x08\xff\xd8\xff\xd9ab' + jpeg[2:]
    assert not is_cut_short(with_thumbnail)
    assert is_cut_short(with_thumbnail[:-2])


def test_intact_png():
    file = io.BytesIO()
    Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save(file, 'PNG', dpi=(72, 72))
    png = file.getvalue()
    assert is_intact_png(png)
    assert is_intact_png(png + b'more')
    for name in (b'IHDR', b'IDAT', b'IEND'):
        # The checksum of a chunk includes its name.
        assert not is_intact_png(png.replace(name, name[:3] + b'?'))
        assert not is_intact_png(png[: png.index(name)])
    assert not is_intact_png(png.replace(b'IDAT', b'iDAT'))
    damaged = bytearray(png)
    damaged[png.index(b'IDAT') + 10] ^= 1
    assert not is_intact_png(damaged)
    # Readers do without the resolution.
    assert is_intact_png(png.replace(b'pHYs', b'pHYz'))


def test_damaged_exif(images):
    """Decoders disagree about it, so it is not ignored."""
    jpeg = next(image.encoded for image in images if image.name == 'JPEG, orientation 6, square')
    damaged = jpeg.replace(b'Exif\0\0MM\0*', b'Exif\0\0MM\xff*').replace(b'Exif\0\0II*\0', b'Exif\0\0II*\xff')
    assert damaged != jpeg
    assert read_header(damaged).orientation == UNCLEAR


@pytest.mark.parametrize('orientation', [0, 9, 300, 65535])
def test_orientation_that_does_not_exist(orientation):
    file = io.BytesIO()
    Image.new('RGB', (4, 4)).save(file, 'TIFF', tiffinfo={ORIENTATION: orientation})
    assert read_header(file.getvalue()).orientation == UPRIGHT


def test_damage_is_no_exception(images):
    random = np.random.RandomState(0)
    for image in images:
        for _ in range(20):
            damaged = bytearray(image.encoded[: random.randint(len(image.encoded) + 1)])
            for _ in range(random.randint(4)):
                if damaged:
                    damaged[random.randint(min(len(damaged), 100))] = random.choice([0, 1, 0x7F, 0x80, 0xFF])
            header = read_header(bytes(damaged))
            assert header is None or header.width > 0 < header.height
            is_cut_short(bytes(damaged))
