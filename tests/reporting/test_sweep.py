"""sweep.py: the results of benchmark.py as tables and files."""

import math

import pytest

from imagenet.common.errors import UserError
from imagenet.reporting.sweep import Sweep, markdown_tables, text_tables


def test_tables_of_an_unfinished_sweep():
    sweep = Sweep([1, 2], [8], ['val.total_ips'], {'options': {}, 'machine': 'this one'})
    sweep.add((1, 8), 'net', {'val.total_ips': 123.456})
    sweep.fail((2, 8), 'no such device')
    assert math.isnan(sweep.value((2, 8), 'val.total_ips'))
    assert '123.46' in text_tables(sweep)
    lines = markdown_tables(sweep).splitlines()
    assert lines[0] == '## net'
    assert any(line.startswith('|') and '123.46' in line for line in lines)
    assert lines[-1] == '[1] 2 x 8: no such device'


def test_file_that_is_no_sweep(tmp_path):
    path = tmp_path / 'out.json'
    for content in ('', '[]', '{"a": 1}'):
        path.write_text(content)
        with pytest.raises(UserError, match='not a sweep'):
            Sweep([1], [8], [], {'options': {}}).resume(path)
