"""json_files.py: whatever a file contains, it is read within limits or refused in a line."""

import json

import jsonschema
import pytest

from helpers.commands import PROJECT
from imagenet.common.errors import UserError
from imagenet.reporting.json_files import DEEPEST, MOST_BYTES, parse_json, read_json

SCHEMAS = sorted((PROJECT / 'imagenet').rglob('*_schema.json'))


@pytest.fixture
def schema(tmp_path):
    path = tmp_path / 'schema.json'
    properties = {'version': {'const': 1}, 'count': {'type': 'integer'}, 'names': {'items': {'type': 'string'}}}
    path.write_text(json.dumps({'type': 'object', 'properties': properties}))
    return path


def read(schema, content):
    path = schema.with_name('file.json')
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return read_json(path, schema, 'a list', advice='write it again')


def test_content(schema):
    content = {'version': 1, 'count': -5, 'names': ['[[[{"é\\'], 'more': [1.5, None, True]}
    assert read(schema, content) == content


@pytest.mark.parametrize(
    ('content', 'problem'),
    [
        (b'', 'not JSON (Expecting value: line 1 column 1 (char 0))'),
        (b'\xff{}', "not JSON ('utf-8' codec can't decode byte 0xff"),
        (b'{"a": 1, "a": 2}', 'a key occurs twice'),
        (b'{"a\\nb": 1}', 'a key with a control character'),
        (b'{"a": NaN}', 'NaN is not a number'),
        (b'[-Infinity]', '-Infinity is not a number'),
        (b'[1e999]', '1e999 is too large'),
        (b'[1' + b'0' * 5000 + b']', 'an integer of more than 18 digits'),
        (b'[' * 200_000, 'more than 50 levels of brackets'),
        (b'{"a":' * 200_000, 'more than 50 levels of brackets'),
        (b'"' + b'[' * 1000, 'Unterminated string'),
        ([], "top level: [] is not of type 'object'"),
        ({'count': 1.0}, "count: 1.0 is not of type 'integer'"),
        ({'count': True}, "count: True is not of type 'integer'"),
        ({'names': ['', 2]}, "names.1: 2 is not of type 'string'"),
        ({'count': 'a\n\x1b[2J' * 1000}, r"count: 'a\n\x1b[2J"),
    ],
    ids=range(16),
)
def test_refused(schema, content, problem):
    with pytest.raises(UserError) as error:
        read(schema, content)
    message = str(error.value)
    assert message.startswith(f'{schema.with_name("file.json")}: not a list')
    assert problem in message
    assert message.endswith('; write it again')
    assert message.isprintable()
    assert len(message) < 600


def test_another_version_is_found_first(schema):
    with pytest.raises(UserError, match='a list of version 2; this package reads 1; write it again'):
        read(schema, {'count': 'many', 'version': 2})


def test_file_without_an_end(schema):
    with pytest.raises(UserError, match='larger than 32 MiB'):
        read_json('/dev/zero', schema, 'a list')
    assert parse_json(b'"' + b'a' * (MOST_BYTES - 2) + b'"')


def test_deepest(schema):
    assert parse_json(b'[' * DEEPEST + b']' * DEEPEST)


def test_missing_file(schema):
    with pytest.raises(UserError, match=r'--load it: cannot read this file \(No such file or directory\)'):
        read_json(schema.with_name('none.json'), schema, 'a list', '--load it')


@pytest.mark.parametrize('path', SCHEMAS, ids=lambda path: path.stem)
def test_schemas_are_valid(path):
    jsonschema.Draft7Validator.check_schema(json.loads(path.read_text()))


def test_there_are_schemas():
    assert {path.stem for path in SCHEMAS} >= {
        'int8_schema',
        'manifest_schema',
        'packing_schema',
        'published_schema',
        'report_schema',
        'sweep_schema',
        'symbol_schema',
    }
