"""Reads the format, size and orientation of an image from its first bytes, without decoding it.

Only formats that OpenCV decodes on every machine are known: JPEG, PNG, BMP, WebP, TIFF and PNM.
"""

import re
import struct
import zlib
from collections import namedtuple

# `orientation` is that of EXIF: 1 is upright, 2 to 8 are turned or mirrored. It is None if there is no such tag, and
# `UNCLEAR` if the tags are damaged.
ImageHeader = namedtuple('ImageHeader', 'format width height orientation')
UPRIGHT, UNCLEAR = 1, 0

JPEG_START, JPEG_END = b'\xff\xd8\xff', b'\xff\xd9'
SCAN, EXIF_SEGMENT = 0xDA, 0xE1
# Baseline, extended and progressive JPEG with Huffman codes: the kinds that every decoder knows.
DECODABLE_FRAMES = (0xC0, 0xC1, 0xC2)
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
MARKERS_WITHOUT_LENGTH = frozenset([0x01, *range(0xD0, 0xDA)])
COMPONENTS = (1, 3, 4)
# First chunk, layout of a chunk's header, and number of bytes of the checksum after its content.
PNG_CHUNKS, WEBP_CHUNKS = (8, '>I4s', 4), (12, '<4sI', 0)
PIXEL_CHUNK, LAST_CHUNK = b'IDAT', b'IEND'
# In the first letter of the name of a PNG's chunk: readers may skip it.
OPTIONAL_CHUNK = 0x20
EXIF_START = b'Exif\0\0'
WIDTH_TAG, HEIGHT_TAG, ORIENTATION_TAG = 256, 257, 274
BYTE_ORDERS = {b'II*\0': '<', b'MM\0*': '>'}
LONG = 4


def read_header(encoded):
    """Return the `ImageHeader` of an encoded image, or None if it has none of the known formats or is damaged.

    Args:
        encoded: the bytes of the image, or as many of the first ones as its header takes.
    """
    view = memoryview(encoded)
    start = bytes(view[:16])
    read = next((read for pattern, read in READERS if pattern.match(start)), None)
    try:
        header = read(view) if read else None
    except (struct.error, IndexError):
        return None
    return header if header and header.width > 0 and header.height > 0 else None


def is_cut_short(encoded):
    """Return whether a JPEG lacks its end marker."""
    if bytes(encoded[-len(JPEG_END) :]) == JPEG_END:
        return False
    view = memoryview(encoded)
    try:
        # In the header, the marker may be the end of a thumbnail.
        scan = next(begin for marker, begin, _ in _jpeg_segments(view) if marker == SCAN)
    except (struct.error, IndexError, StopIteration):
        return True
    return bytes(view[scan:]).find(JPEG_END) < 0


def _jpeg_segments(view):
    """Yield (marker, first byte, end) of the contents of a JPEG's segments."""
    at = len(JPEG_START) - 1
    while True:
        # Decoders skip what is between segments.
        while view[at] != 0xFF or view[at + 1] in (0x00, 0xFF):
            at += 1
        marker = view[at + 1]
        at += 2
        if marker not in MARKERS_WITHOUT_LENGTH:
            (length,) = struct.unpack_from('>H', view, at)
            yield marker, at + 2, at + length
            at += max(2, length)


def _read_jpeg(view):
    frame, orientation = None, None
    for marker, begin, end in _jpeg_segments(view):
        if marker == SCAN:
            break
        if marker in FRAMES:
            frame = (marker, *struct.unpack_from('>BHHB', view, begin))
        elif marker == EXIF_SEGMENT and orientation is None and view[begin:end][: len(EXIF_START)] == EXIF_START:
            orientation = _exif_orientation(view[begin + len(EXIF_START) : end])
    if frame is None:
        return None
    marker, bits, height, width, components = frame
    is_decodable = marker in DECODABLE_FRAMES and bits == 8 and components in COMPONENTS
    return ImageHeader('JPEG', width, height, orientation) if is_decodable else None


def is_intact_png(encoded):
    """Return whether a PNG has all its pixels: the chunks that readers need are whole, with the right checksums."""
    view = memoryview(encoded)
    has_pixels = False
    for name, begin, end in _chunks(view, *PNG_CHUNKS):
        is_needed = not name[0] & OPTIONAL_CHUNK
        if is_needed and view[end : end + 4] != struct.pack('>I', zlib.crc32(view[begin - 4 : end])):
            return False
        has_pixels |= name == PIXEL_CHUNK
        if name == LAST_CHUNK:
            return has_pixels
    return False


def _read_png(view):
    width, height = struct.unpack_from('>II', view, 16)
    return ImageHeader('PNG', width, height, _chunk_orientation(view, *PNG_CHUNKS))


def _chunk_orientation(view, *layout):
    """Return the orientation in the EXIF chunk of a PNG or a WebP, or None if there is no such chunk."""
    for name, begin, end in _chunks(view, *layout):
        if name in (b'eXIf', b'EXIF'):
            content = view[begin:end]
            return _exif_orientation(content[len(EXIF_START) :] if content[:6] == EXIF_START else content)
    return None


def _chunks(view, begin, header_format, num_check_bytes):
    """Yield (name, first byte, end) of the contents of the chunks of a PNG or a WebP."""
    header = struct.Struct(header_format)
    while begin + header.size <= len(view):
        fields = header.unpack_from(view, begin)
        name, length = fields if isinstance(fields[0], bytes) else fields[::-1]
        begin += header.size
        yield name, begin, begin + length
        begin += length + num_check_bytes + (0 if num_check_bytes else length % 2)


def _read_webp(view):
    kind = bytes(view[12:16])
    if kind == b'VP8 ':
        width, height = (side & 0x3FFF for side in struct.unpack_from('<HH', view, 26))
    elif kind == b'VP8L':
        (word,) = struct.unpack_from('<I', view, 21)
        width, height = (word & 0x3FFF) + 1, (word >> 14 & 0x3FFF) + 1
    elif kind == b'VP8X':
        width, height = (int.from_bytes(view[at : at + 3], 'little') + 1 for at in (24, 27))
    else:
        return None
    return ImageHeader('WebP', width, height, _chunk_orientation(view, *WEBP_CHUNKS))


def _read_bmp(view):
    (header_size,) = struct.unpack_from('<I', view, 14)
    width, height = struct.unpack_from('<HH' if header_size == 12 else '<ii', view, 18)
    # A negative height means that the rows are stored from top to bottom.
    return ImageHeader('BMP', width, abs(height), None)


def _read_tiff(view):
    tags = _read_tags(view)
    return ImageHeader('TIFF', tags.get(WIDTH_TAG, 0), tags.get(HEIGHT_TAG, 0), _orientation(tags))


def _read_pnm(view):
    # Comments may stand between the numbers.
    match = re.match(rb'P[1-6](?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})\s', bytes(view[:4096]))
    return ImageHeader('PNM', int(match[1]), int(match[2]), None) if match else None


def _exif_orientation(view):
    try:
        return _orientation(_read_tags(view))
    except (struct.error, KeyError):
        return UNCLEAR


def _orientation(tags):
    orientation = tags.get(ORIENTATION_TAG)
    # Decoders ignore other values.
    return orientation if orientation is None or 1 <= orientation <= 8 else UPRIGHT


def _read_tags(view):
    """Return the first value of each integer tag in the first directory of a TIFF file, which EXIF data is, too."""
    order = BYTE_ORDERS[bytes(view[:4])]
    (begin,) = struct.unpack_from(f'{order}I', view, 4)
    (count,) = struct.unpack_from(f'{order}H', view, begin)
    tags = {}
    for at in range(begin + 2, begin + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(f'{order}HH', view, at)
        (tags[tag],) = struct.unpack_from(f'{order}{"I" if kind == LONG else "H"}', view, at + 8)
    return tags


READERS = [
    (re.compile(pattern, re.DOTALL), read)
    for pattern, read in (
        (rb'\xff\xd8\xff', _read_jpeg),
        (rb'\x89PNG\r\n\x1a\n....IHDR', _read_png),
        (rb'RIFF....WEBP', _read_webp),
        (rb'BM', _read_bmp),
        (rb'II\*\0|MM\0\*', _read_tiff),
        (rb'P[1-6]\s', _read_pnm),
    )
]
