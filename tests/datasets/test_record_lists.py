"""record_lists.py: the list of a record file, and lists of other records."""

import pytest

from imagenet.datasets.record_lists import count_listed_labels, read_listed_files

LIST = b'7\t1.000000\tdog/a b.jpg\n3\t0.000000\tcat/caf\xe9.jpg\n9\t1\tdog/c.jpg\n'


@pytest.fixture
def paths(tmp_path):
    """The paths of a record file, which nothing reads, and of its index."""
    (tmp_path / 'val.idx').write_text('3\t0\n7\t40\n9\t80\n')
    return tmp_path / 'val.rec', tmp_path / 'val.idx'


def test_list(paths):
    """The files are in the order of the index."""
    paths[0].with_suffix('.lst').write_bytes(LIST)
    assert read_listed_files(*paths) == ['cat/caf\\udce9.jpg', 'dog/a b.jpg', 'dog/c.jpg']
    assert count_listed_labels(*paths, 4).tolist() == [1, 2, 0, 0]
    assert count_listed_labels(*paths, 1) is None


@pytest.mark.parametrize(
    'lines',
    [
        LIST + b'8\t0\tcat/c.jpg\n',
        LIST.replace(b'7', b'8'),
        LIST.replace(b'1.000000', b'1\t2'),
        LIST.replace(b'1.000000', b'dog'),
        LIST.replace(b'1.000000', b'inf'),
        LIST.replace(b'3', b'9' * 40),
        b'',
    ],
)
def test_list_of_something_else(paths, lines):
    paths[0].with_suffix('.lst').write_bytes(lines)
    assert read_listed_files(*paths) is None
    assert count_listed_labels(*paths, 4) is None


def test_nothing_there(paths, tmp_path):
    assert read_listed_files(*paths) is None
    assert count_listed_labels(tmp_path / 'train.rec', tmp_path / 'train.idx', 4) is None
