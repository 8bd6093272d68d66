"""ImageNet's reassessed labels: which classes are right for each record, and the accuracy that follows."""

import json

import numpy as np
import pytest

from imagenet.common.errors import UserError
from imagenet.datasets.real_labels import read_real_labels, real_top1

FILES = ['a/ILSVRC2012_val_00000003.JPEG', 'b/ILSVRC2012_val_00000001.png', 'ILSVRC2012_val_00000002.JPEG']


def write(folder, content):
    (folder / 'real.json').write_text(content if isinstance(content, str) else json.dumps(content))
    return folder / 'real.json'


def test_records_are_found_by_the_numbers_in_their_names(tmp_path):
    path = write(tmp_path, [[0], [], [2, 1]])
    assert read_real_labels(path, FILES, 3) == [{1, 2}, {0}, set()]


@pytest.mark.parametrize(
    ('content', 'files', 'message'),
    [
        ([[0], [], [3]], FILES, 'has class 3, and the network 3 classes'),
        ([[0], []], FILES, 'has labels for 2 images, and none for a/ILSVRC2012_val_00000003.JPEG'),
        ([[0]], ['ILSVRC2012_val_00000000.JPEG'], 'has labels for 1 images, and none for'),
        ([[0]], ['cat.jpg'], "cat.jpg is not named as ImageNet's validation images are"),
        ([[0]], ['ILSVRC2012_val_00000001.JPEG/cat.jpg'], 'is not named'),
        ([[0]], None, 'needs val.lst'),
        ([[-1]], FILES, "not ImageNet's reassessed labels"),
        ([[True]], FILES, "not ImageNet's reassessed labels"),
        ([[1.5]], FILES, "not ImageNet's reassessed labels"),
        ([], FILES, "not ImageNet's reassessed labels"),
        ({'a': [0]}, FILES, "not ImageNet's reassessed labels"),
        ('[[0', FILES, 'not JSON'),
    ],
)
def test_something_else(tmp_path, content, files, message):
    with pytest.raises(UserError, match='^--real-labels ') as found:
        read_real_labels(write(tmp_path, content), files, 3)
    assert message in str(found.value)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match='cannot read this file'):
        read_real_labels(tmp_path / 'real.json', FILES, 3)


def test_images_without_a_right_class_do_not_count():
    right = [{1, 2}, {0}, set()]
    assert real_top1(np.array([0, 1, 2]), np.array([2, 2, 2]), right) == (0.5, 2)
    # Only some records may have been validated.
    assert real_top1(np.array([1]), np.array([0]), right) == (1, 1)
    top1, images = real_top1(np.array([2]), np.array([0]), right)
    assert np.isnan(top1)
    assert images == 0
