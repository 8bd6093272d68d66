"""Mutations of bytes, JSON and option values. All draw from the `random.Random` that they are given."""

import copy
import json
import struct

EXTREME_INTEGERS = (
    0,
    1,
    2,
    0x7F,
    0xFF,
    0x7FFF,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
# Replaced by brackets in the text, since they are too many for Python's own JSON writer.
DEEP = 'a value nested too deeply'
DEPTHS = (60, 2000, 200_000)
HOSTILE_TEXTS = (
    '',
    ' ',
    '.',
    '..',
    '-',
    '--',
    '*',
    '**',
    '[',
    '$x$',
    '%s',
    '{0}',
    'a\nb',
    'a\r\x1b[2Jb',
    'a\u2028b',
    '\u202e',
    '\udcff',
    'é' * 200,
    'a' * 300,
    'a/' * 3000,
    'x' * 100_000,
    # Cannot be created: mutations stay in their folder.
    '/dev/null/file',
    '../../file',
)
HOSTILE_NUMBERS = (
    0,
    -1,
    1,
    2,
    0.5,
    -0.5,
    1e-320,
    1e39,
    1e308,
    10**6,
    10**9,
    2**31,
    2**63,
    10**18,
    10**400,
    float('nan'),
    float('inf'),
    float('-inf'),
)
HOSTILE_VALUES = (None, True, False, [], {}, [[]], [None], {'a': 1}, DEEP, *HOSTILE_NUMBERS, *HOSTILE_TEXTS)


def mutate_bytes(random, content, most_places=None):
    """Return a mutation of bytes.

    Args:
        most_places: mutate only the first of them, such as a file's header; by default, all.
    """
    content = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        random.choice(BYTE_MUTATIONS)(random, content, min(most_places or len(content), len(content)))
    return bytes(content)


def _noise(random, count):
    return bytes(random.randrange(256) for _ in range(count))


def _flip(random, content, places):
    for _ in range(random.choice((1, 1, 8))):
        if places:
            content[random.randrange(places)] ^= 1 << random.randrange(8)


def _overwrite(random, content, places):
    begin = random.randrange(places + 1)
    count = random.choice((1, 4, 100))
    content[begin : begin + count] = _noise(random, min(count, len(content) - begin))


def _truncate(random, content, places):
    del content[random.randrange(places + 1) :]


def _delete(random, content, places):
    begin = random.randrange(places + 1)
    del content[begin : begin + random.choice((1, 8, 1000))]


def _repeat(random, content, places):
    begin = random.randrange(places + 1)
    piece = content[begin : begin + random.choice((1, 8, 1000))]
    content[begin:begin] = piece * random.choice((1, 2, 100))


def _splice(random, content, places):
    begin, end = sorted(random.randrange(places + 1) for _ in range(2))
    target = random.randrange(places + 1)
    content[target : target + end - begin] = content[begin:end]


def _set_integer(random, content, places):
    kind = random.choice('HIQ')
    size = struct.calcsize(f'<{kind}')
    # Numbers in a file are aligned as often as not.
    begin = random.randrange(places + 1) // random.choice((1, 4, 8)) * random.choice((1, 4, 8))
    if begin + size <= len(content):
        value = random.choice(EXTREME_INTEGERS) & (1 << 8 * size) - 1
        content[begin : begin + size] = struct.pack(f'<{kind}', value)


def _set_zeros(random, content, places):
    begin = random.randrange(places + 1)
    content[begin : begin + 64] = bytes(len(content[begin : begin + 64]))


def _append(random, content, places):
    content += _noise(random, random.choice((1, 8, 1000)))


BYTE_MUTATIONS = (
    _flip,
    _flip,
    _overwrite,
    _truncate,
    _delete,
    _repeat,
    _splice,
    _set_integer,
    _set_integer,
    _set_integer,
    _set_zeros,
    _append,
)


def mutate_json(random, content):
    """Return the bytes of a JSON file with a mutation of `content`: of its structure, or of the text."""
    content = copy.deepcopy(content)
    if random.random() < 0.2:
        return mutate_bytes(random, as_json(content))
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        content = _mutate_tree(random, content)
    encoded = as_json(content)
    nested = random.choice(('[', '{"a":')) * random.choice(DEPTHS)
    return encoded.replace(json.dumps(DEEP).encode(), nested.encode())


def as_json(content):
    return json.dumps(content).encode()


def _mutate_tree(random, content):
    """Change one place, which is drawn by walking down from the top."""
    if not isinstance(content, (dict, list)) or not content or random.random() < 0.03:
        return random.choice(HOSTILE_VALUES)
    parent, key = content, _draw_key(random, content)
    while isinstance(parent[key], (dict, list)) and parent[key] and random.random() < 0.8:
        parent = parent[key]
        key = _draw_key(random, parent)
    what = random.randrange(6)
    if what == 0:
        del parent[key]
    elif what == 1 and isinstance(parent, dict):
        parent[random.choice(HOSTILE_TEXTS)] = parent.pop(key)
    elif what == 2 and isinstance(parent, list):
        parent *= random.choice((2, 1000))
    elif what == 3:
        other = _draw_key(random, parent)
        parent[key], parent[other] = parent[other], parent[key]
    else:
        parent[key] = random.choice(HOSTILE_VALUES)
    return content


def _draw_key(random, parent):
    return random.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))


def hostile_value(random, names):
    """Return an option's value as text: a name from `names`, a number, a list, or a name that no file has."""
    kind = random.randrange(5)
    if kind == 0:
        return random.choice(names)
    if kind == 1:
        return str(random.choice(HOSTILE_NUMBERS))
    if kind == 2:
        count = random.choice((1, 2, 3, 50, 20_000))
        return ','.join([str(random.choice(HOSTILE_NUMBERS[:-4])) for _ in range(min(count, 3))] * (count // 3 + 1))
    if kind == 3:
        return random.choice(HOSTILE_TEXTS)
    return random.choice(('1', '2', '4', '3,32,32', '0.1', 'train', 'val', 'pred', 'mxnet', 'dali-cpu', 'synthetic'))
