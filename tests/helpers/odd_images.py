"""Image files as they turn up in the world: every format, color space and orientation, and damage of many kinds."""

import io
import struct
import zlib
from collections import namedtuple

import cv2
import numpy as np
from PIL import Image

# `shown` is what a viewer shows, uint8 `(H, W, 3)` in the order red, green, blue; None if the file is refused.
OddImage = namedtuple('OddImage', 'name suffix encoded shown')

SHAPES = {'square': (48, 48), 'wide': (40, 64)}
ORIENTATION = 0x0112
JPEG = {'format': 'JPEG', 'quality': 95, 'subsampling': 0}
PNG, BMP, TIFF, PPM, GIF = ({'format': name} for name in ('PNG', 'BMP', 'TIFF', 'PPM', 'GIF'))
WEBP = {'format': 'WEBP', 'lossless': True}
SUFFIXES = {'JPEG': '.jpg', 'PNG': '.png', 'BMP': '.bmp', 'TIFF': '.tif', 'PPM': '.ppm', 'GIF': '.gif', 'WEBP': '.webp'}

# Pillow's color mode, and how the image is stored.
PLAIN = {
    'JPEG': ('RGB', JPEG),
    'JPEG, 4:2:0': ('RGB', {**JPEG, 'subsampling': 2}),
    'JPEG, progressive': ('RGB', {**JPEG, 'progressive': True}),
    'JPEG, progressive, gray': ('L', {**JPEG, 'progressive': True}),
    'JPEG, gray': ('L', JPEG),
    'JPEG, CMYK': ('CMYK', JPEG),
    'JPEG, stored as RGB': ('RGB', {**JPEG, 'keep_rgb': True}),
    'JPEG, restart markers': ('RGB', {**JPEG, 'restart_marker_blocks': 2}),
    'PNG': ('RGB', PNG),
    'PNG, gray': ('L', PNG),
    'PNG, palette': ('P', PNG),
    'PNG, palette, transparent': ('P', {**PNG, 'transparency': 3}),
    'PNG, 1 bit': ('1', PNG),
    'PNG, transparent color': ('RGB', {**PNG, 'transparency': (1, 2, 3)}),
    'PNG, alpha': ('RGBA', PNG),
    'PNG, gray, alpha': ('LA', PNG),
    'PNG, animated': ('RGB', {**PNG, 'save_all': True}),
    'BMP': ('RGB', BMP),
    'BMP, palette': ('P', BMP),
    'BMP, 1 bit': ('1', BMP),
    'WebP': ('RGB', WEBP),
    'WebP, lossy': ('RGB', {'format': 'WEBP', 'quality': 95}),
    'WebP, animated': ('RGB', {**WEBP, 'save_all': True}),
    'TIFF': ('RGB', TIFF),
    'TIFF, LZW': ('RGB', {**TIFF, 'compression': 'tiff_lzw'}),
    'TIFF, gray': ('L', TIFF),
    'TIFF, palette': ('P', TIFF),
    'TIFF, CMYK': ('CMYK', TIFF),
    'TIFF, pages': ('RGB', {**TIFF, 'save_all': True}),
    'PPM': ('RGB', PPM),
    'PGM': ('L', PPM),
}
ORIENTED = ('JPEG', 'JPEG, progressive', 'JPEG, gray', 'JPEG, CMYK', 'PNG', 'WebP', 'TIFF')
# How a viewer turns an image with an EXIF orientation.
TURNED = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, -1)[:, ::-1].transpose(1, 0, 2)[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90,
}


def odd_images():
    """Return about 200 `OddImage`."""
    found = []
    for number, (shape_name, (height, width)) in enumerate(SHAPES.items()):
        picture = smooth_picture(height, width, seed=number)
        for name, encoded, shown in [*plain(picture), *oriented(picture), *deep(picture), *damaged(picture)]:
            found.append(OddImage(f'{name}, {shape_name}', suffix_of(name), encoded, shown))
    found += [OddImage(name, suffix_of(name), *rest) for name, *rest in [*narrow(), *huge(), *other_files()]]
    return found


def suffix_of(name):
    # Names do not matter: a PNG may be called .jpg.
    return '.jpg' if 'named .jpg' in name else SUFFIXES.get(name.split(',')[0].upper(), '.jpg')


def smooth_picture(height, width, seed=0):
    """Return a picture that survives JPEG, and looks different in each orientation."""
    colors = np.random.RandomState(seed).randint(0, 256, (5, 5, 3), dtype=np.uint8)
    return cv2.resize(colors, (width, height), interpolation=cv2.INTER_LINEAR)


def encode(picture, mode, settings, orientation=None):
    """Return the encoded picture, and the picture in the colors of the mode."""
    image = Image.fromarray(picture).convert(mode)
    settings = dict(settings)
    if orientation:
        settings['exif'] = Image.Exif()
        settings['exif'][ORIENTATION] = orientation
    if settings.get('save_all'):
        settings['append_images'] = [Image.fromarray(255 - picture)]
    stream = io.BytesIO()
    image.save(stream, **settings)
    return stream.getvalue(), np.asarray(image.convert('RGB'))


def plain(picture):
    for name, (mode, settings) in PLAIN.items():
        yield (name, *encode(picture, mode, settings))
    yield ('PNG, named .jpg', *encode(picture, *PLAIN['PNG']))
    yield ('WebP, named .jpg', *encode(picture, *PLAIN['WebP']))
    encoded, shown = encode(picture, *PLAIN['JPEG'])
    yield 'JPEG, bytes after its end', encoded + b'x' * 999, shown
    yield 'JPEG, another one after its end', encoded + encode(255 - picture, *PLAIN['JPEG'])[0], shown


def oriented(picture):
    for name in ORIENTED:
        for orientation, turned in TURNED.items():
            encoded, stored = encode(picture, *PLAIN[name], orientation)
            yield f'{name}, orientation {orientation}', encoded, turned(stored)
    yield ('JPEG, orientation 9', *encode(picture, *PLAIN['JPEG'], 9))


def deep(picture):
    """Yield images with 16 bits per channel; 8 bits of them are shown."""
    gray = np.repeat(picture[:, :, 1:2], 3, axis=2)
    for name, pixels, shown in (('16 bit', picture[:, :, ::-1], picture), ('16 bit, gray', picture[:, :, 1], gray)):
        for suffix in ('.png', '.tif'):
            encoded = cv2.imencode(suffix, pixels.astype(np.uint16) * 257)[1].tobytes()
            yield f'{ {".png": "PNG", ".tif": "TIFF"}[suffix] }, {name}', encoded, shown


def damaged(picture):
    """Yield images that are cut short or changed; all are refused."""
    jpeg, png, progressive, *others = (
        encode(picture, *PLAIN[name])[0] for name in ('JPEG', 'PNG', 'JPEG, progressive', 'WebP', 'TIFF', 'BMP', 'PPM')
    )
    for lost in (1, 2, 40, len(jpeg) // 2, len(jpeg) - 100):
        yield f'JPEG, {lost} bytes missing', jpeg[:-lost], None
    yield 'JPEG, progressive, cut short', progressive[: -len(progressive) // 3], None
    yield 'JPEG, a byte before its start', b'\n' + jpeg, None
    yield 'JPEG, 12 bit', with_frame(jpeg, 0, b'\x0c'), None
    yield 'JPEG, arithmetic coding', jpeg.replace(b'\xff\xc0', b'\xff\xc9', 1), None
    yield 'JPEG, two components', with_frame(jpeg, 5, b'\x02'), None
    for lost in (8, 20, len(png) // 2):
        yield f'PNG, {lost} bytes missing', png[:-lost], None
    middle = len(png) // 2
    yield 'PNG, a byte changed', png[:middle] + bytes([png[middle] ^ 0x55]) + png[middle + 1 :], None
    for name, encoded in zip(('WebP', 'TIFF', 'BMP', 'PPM'), others):
        yield f'{name}, cut short', encoded[: len(encoded) // 2], None
    yield 'GIF, named .jpg', encode(picture, 'P', GIF)[0], None


def with_frame(jpeg, offset, content):
    """Return a JPEG with other bytes in its frame header, from an offset on: precision, height, width, components."""
    begin = jpeg.index(b'\xff\xc0') + 4 + offset
    return jpeg[:begin] + content + jpeg[begin + len(content) :]


def narrow():
    for name in ('JPEG', 'PNG', 'BMP'):
        for height, width in ((1, 64), (64, 1), (1, 1), (1, 500)):
            yield (f'{name}, {height} x {width}', *encode(smooth_picture(height, width), *PLAIN[name]))
    for name in ('JPEG', 'PNG'):
        yield f'{name}, 1 x 2000', encode(smooth_picture(1, 2000), *PLAIN[name])[0], None


def huge():
    """Yield small files whose headers declare huge images."""
    jpeg, bmp = (encode(smooth_picture(8, 8), *PLAIN[name])[0] for name in ('JPEG', 'BMP'))
    for side in (15_000, 32_000, 50_000, 65_535):
        yield f'JPEG, {side} x {side}', with_frame(jpeg, 1, struct.pack('>HH', side, side)), None
        yield f'PNG, {side} x {side}', png_with_size(side), None
        yield f'BMP, {side} x {side}', bmp[:18] + struct.pack('<ii', side, -side) + bmp[26:], None
        yield f'PPM, {side} x {side}', b'P6\n# a comment\n%d %d\n255\n' % (side, side), None
        yield f'TIFF, {side} x {side}', tiff_with_size(side), None
    yield 'PNG, 2147483647 x 2147483647', png_with_size(2**31 - 1), None
    yield 'PNG, 0 x 0', png_with_size(0), None
    yield 'WebP, 16777216 x 16777216', b'RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0' + b'\xff' * 6, None


def png_with_size(side):
    header = struct.pack('>IIBBBBB', side, side, 8, 2, 0, 0, 0)
    chunks = ((b'IHDR', header), (b'IDAT', zlib.compress(b'\0')), (b'IEND', b''))
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data)) for kind, data in chunks
    )


def tiff_with_size(side):
    """Return a TIFF file that only consists of its size."""
    tags = [struct.pack('<HHII', tag, 4, 1, side) for tag in (256, 257)]
    return b'II*\0' + struct.pack('<IH', 8, len(tags)) + b''.join(tags) + bytes(4)


def other_files():
    yield 'empty', b'', None
    yield 'HTML', b'<!DOCTYPE html><html>404 Not Found</html>', None
    yield 'SVG', b'<svg xmlns="http://www.w3.org/2000/svg"/>', None
    yield 'macOS resource fork', b'\0\5\x16\7\0\2\0\0Mac OS X        ' + bytes(40), None
    for start in (b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n', b'BM', b'II*\0', b'MM\0*', b'RIFF\0\0\0\0WEBPVP8 ', b'P6 '):
        yield f'nothing but {start[:4]!r}', start, None
