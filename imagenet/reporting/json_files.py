"""Reading JSON files, whoever wrote them: limits before parsing, then a schema.

Each format has a JSON Schema, in a file next to the code that reads it.
"""

import json
import math
import re
from pathlib import Path

from imagenet.common.errors import UserError
from imagenet.common.text import printable, shortened

# The largest file is the manifest of a run that stopped in an epoch: 20 bytes for each step.
MOST_BYTES = 32 << 20
# Parsing, checking and printing call themselves for each level.
DEEPEST = 50
LONGEST_INTEGER = 18
# A string, whose brackets do not count, even if it has no end; or a bracket.
TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]|[\]}]', re.DOTALL)


def read_json(path, schema, kind, subject=None, advice=None):
    """Return the content of a JSON file that fits its schema.

    NaN, infinite numbers and keys that occur twice are errors, and `integer` in a schema means a Python int.

    Args:
        schema: path of the JSON Schema (draft 7).
        kind: what the file should be, for messages, such as 'a report'.
        subject: the start of messages; by default, the path.
        advice: what a user can do, for the end of messages.

    Raises:
        UserError: the file cannot be read, is not JSON, or does not fit the schema.
    """
    subject = subject or path
    try:
        encoded = _read(path)
    except OSError as error:
        raise UserError(
            f'{subject}: cannot read this file ({error.strerror}){f"; {advice}" if advice else ""}'
        ) from None
    return check_json(encoded, schema, kind, subject, advice)


def check_json(encoded, schema, kind, subject, advice=None):
    """Return the content of JSON in bytes that fits its schema; see `read_json`."""
    advice = f'; {advice}' if advice else ''
    try:
        content = parse_json(encoded)
    except ValueError as error:
        raise UserError(f'{subject}: not {kind}, because it is not JSON ({_shown(error)}){advice}') from None
    error = _first_error(content, schema)
    if error is None:
        return content
    place = '.'.join(map(str, error.absolute_path)) or 'top level'
    if error.validator == 'const':
        found, known = _shown(error.instance), error.validator_value
        raise UserError(f'{subject}: {kind} of {_shown(place)} {found}; this package reads {known}{advice}')
    raise UserError(f'{subject}: not {kind} ({_shown(f"{place}: {error.message}")}){advice}')


def _read(path):
    """Return at most one byte more than is allowed, so that a file without an end is not read forever."""
    with Path(path).open('rb') as file:
        return file.read(MOST_BYTES + 1)


def parse_json(encoded):
    """Return the content of JSON in bytes.

    Raises:
        ValueError: it is not JSON, or it exceeds the limits.
    """
    if len(encoded) > MOST_BYTES:
        raise ValueError(f'larger than {MOST_BYTES >> 20} MiB')
    text = encoded.decode('utf-8')
    depth = 0
    for token in TOKEN.finditer(text):
        depth += {'[': 1, '{': 1, ']': -1, '}': -1}.get(token.group(), 0)
        if depth > DEEPEST:
            raise ValueError(f'more than {DEEPEST} levels of brackets')
    return json.loads(
        text,
        object_pairs_hook=_object,
        parse_int=_short_integer,
        parse_float=_finite,
        parse_constant=_no_constant,
    )


def _object(pairs):
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError('a key occurs twice')
    # "$" in a schema's pattern also matches before a line feed at the end.
    if not all(map(str.isprintable, content)):
        raise ValueError('a key with a control character')
    return content


def _short_integer(text):
    # Python needs quadratic time for long ones.
    if len(text.lstrip('-')) > LONGEST_INTEGER:
        raise ValueError(f'an integer of more than {LONGEST_INTEGER} digits')
    return int(text)


def _finite(text):
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f'{text} is too large')
    return value


def _no_constant(text):
    raise ValueError(f'{text} is not a number')


def _first_error(content, schema):
    """Return the first contradiction to a schema, or None. A schema's `properties` are checked in their order."""
    # Imported here because training only writes files.
    import jsonschema

    types = jsonschema.Draft7Validator.TYPE_CHECKER.redefine(
        'integer', lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    validator = jsonschema.validators.extend(jsonschema.Draft7Validator, type_checker=types)
    return next(validator(json.loads(schema.read_text(encoding='utf-8'))).iter_errors(content), None)


def _shown(value):
    return shortened(printable(value))
