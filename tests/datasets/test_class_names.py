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
