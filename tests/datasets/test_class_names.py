"""class_names.py: the names of the classes."""

import pytest

from imagenet.common.errors import UserError
from imagenet.datasets.class_names import find_class_names, read_class_names


def test_class_names(tmp_path):
    (tmp_path / 'classes.txt').write_text('cat\ndog\n\n')
    assert find_class_names([tmp_path / 'elsewhere', tmp_path], 2) == ['cat', 'dog']
    assert find_class_names([tmp_path], 3) == ['class 0', 'class 1', 'class 2']
    imagenet = find_class_names([tmp_path], 1000)
    assert imagenet[281] == 'n02123045 tabby, tabby cat'
    (tmp_path / 'classes.txt').write_text('n02123045\nn01440764\n')
    assert find_class_names([tmp_path], 2) == ['n02123045 tabby, tabby cat', 'n01440764 tench, Tinca tinca']


def test_class_names_that_are_no_text(tmp_path):
    (tmp_path / 'classes.txt').write_bytes('Käse\n'.encode('latin-1'))
    with pytest.raises(UserError, match=r'classes\.txt: cannot read the class names'):
        read_class_names(tmp_path)


def test_control_characters_are_escaped(tmp_path):
    (tmp_path / 'classes.txt').write_bytes('a\0b\n\x1b[31mred\n leading space\nü\u2028v\n'.encode())
    assert read_class_names(tmp_path) == ['a\\x00b', '\\x1b[31mred', ' leading space', 'ü\\u2028v']


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('cat\n\ndog\n', r'classes\.txt: line 2 is empty; each line must be the name of a class'),
        ('cat\n' + 100_000 * 'x', r'classes\.txt: line 2 is too long for the name of a class \(100000 characters\)'),
    ],
)
def test_lines_that_are_no_names(tmp_path, content, message):
    (tmp_path / 'classes.txt').write_text(content)
    with pytest.raises(UserError, match=message):
        read_class_names(tmp_path)


def test_empty_file_names_no_class(tmp_path):
    (tmp_path / 'classes.txt').touch()
    assert read_class_names(tmp_path) == []
    assert find_class_names([tmp_path], 2) == ['class 0', 'class 1']
