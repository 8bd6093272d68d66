"""sorting.py: lines are sorted in pieces."""

from random import Random

import pytest

from imagenet.datasets import sorting


@pytest.mark.parametrize('count', [0, 1, 10, 95, 100])
def test_pieces_are_merged(tmp_path, monkeypatch, count):
    monkeypatch.setattr(sorting, 'LINES_AT_ONCE', 10)
    lines = [b'%05d\n' % number for number in range(count)]
    mixed = Random(0).sample(lines, count)
    assert list(sorting.sorted_lines(iter(mixed), tmp_path)) == lines
    assert list(tmp_path.iterdir()) == []


def test_equal_lines_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(sorting, 'LINES_AT_ONCE', 2)
    lines = [b'b\n', b'a\n', b'b\n', b'a\n', b'b\n']
    assert list(sorting.sorted_lines(lines, tmp_path)) == sorted(lines)
