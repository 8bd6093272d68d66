"""record_lists.py: the list of a record file, and lists of other records."""

import pytest

from imagenet.datasets.record_lists import read_record_list

LIST = b'7\t1.000000\tdog/a b.jpg\n3\t0.000000\tcat/caf\xe9.jpg\n'


@pytest.fixture
def read(tmp_path):
    """A function that writes a list and an index, and reads the list."""

    def read(lines, index='3\t0\n7\t40\n'):
        (tmp_path / 'val.idx').write_text(index)
        (tmp_path / 'val.lst').write_bytes(lines)
        return read_record_list(tmp_path / 'val.rec', tmp_path / 'val.idx')

    return read


def test_list_in_the_order_of_the_index(read):
    labels, files = read(LIST)
    assert labels.tolist() == [0, 1]
    assert files == ['cat/caf\\udce9.jpg', 'dog/a b.jpg']


@pytest.mark.parametrize(
    'lines',
    [
        LIST + b'8\t0\tcat/c.jpg\n',
        LIST.replace(b'7', b'8'),
        b'7\t1\t2\tdog/a.jpg\n3\t0\t1\tcat/b.jpg\n',
        LIST.replace(b'1.000000', b'dog'),
        LIST.replace(b'1.000000', b'inf'),
        b'',
    ],
)
def test_list_of_something_else(read, lines):
    assert read(lines) is None


def test_no_list(tmp_path):
    assert read_record_list(tmp_path / 'val.rec', tmp_path / 'val.idx') is None
