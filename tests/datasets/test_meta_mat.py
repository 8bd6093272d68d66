"""meta_mat.py: reads the development kit's classes, and survives SciPy's crashes."""

import pytest

from helpers.imagenet_archives import meta
from imagenet.datasets.meta_mat import Synset, parse_synsets

WORDS = {'class0': 'words', 'class1': 'more\nwords, ü'}


@pytest.mark.parametrize('is_compressed', [True, False])
def test_synsets(is_compressed):
    """The synset above the classes is left out."""
    found = parse_synsets(meta(WORDS, is_compressed))
    assert found == {1: Synset('class0', 'words'), 2: Synset('class1', 'more\\nwords, ü')}


def test_crash():
    """With this byte, SciPy 1.10 ends by a signal, and 1.18 with an exception."""
    content = bytearray(meta(dict.fromkeys(WORDS, 'words'), is_compressed=False))
    content[305] = 0xFF
    with pytest.raises(ValueError, match='.'):
        parse_synsets(content)


def test_another_file():
    with pytest.raises(ValueError, match='synsets'):
        parse_synsets(meta(WORDS, name='other'))
