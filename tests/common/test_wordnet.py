"""wordnet.py: when two names mean the same class."""

import pytest

from imagenet.common.wordnet import is_same_class, short_name


@pytest.mark.parametrize(
    ('name', 'other', 'expected'),
    [
        ('cat', 'cat', True),
        ('cat', 'dog', False),
        ('n01440764', 'n01440764 tench, Tinca tinca', True),
        ('n01440764 tench', 'n01440764 tench, Tinca tinca', True),
        ('n01440764', 'n01443537', False),
        ('n01440764 crane', 'n01443537 crane', False),
        ('n01440764', 'tench, Tinca tinca', False),
        ('n01440764', 'n01440764x', False),
        ('n014407640 a', 'n014407640 b', False),
    ],
)
def test_same_class(name, other, expected):
    assert is_same_class(name, other) == is_same_class(other, name) == expected


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('n01440764 tench, Tinca tinca', 'tench'),
        ('n01440764', 'n01440764'),
        ('n01440764x, y', 'n01440764x'),
        ('0_zero', '0_zero'),
    ],
)
def test_short_name(name, expected):
    assert short_name(name) == expected
