"""sweep.py: the results of benchmark.py as tables and files."""

import json
import math

import cv2
import pytest

from imagenet.common.errors import UserError
from imagenet.reporting.sweep import Run, Sweep, markdown_tables, plot, text_tables


def test_tables_of_an_unfinished_sweep():
    sweep = Sweep([1, 2], [8], ['val.total_ips'], {'options': {}, 'machine': 'this one'})
    sweep.add(Run(1, 8), 'net', {'val.total_ips': 123.456})
    sweep.fail(Run(2, 8), 'no such device')
    assert math.isnan(sweep.value(Run(2, 8), 'val.total_ips'))
    assert '123.46' in text_tables(sweep)
    lines = markdown_tables(sweep).splitlines()
    assert lines[0] == '## net'
    assert any(line.startswith('|') and '123.46' in line for line in lines)
    assert lines[-1] == '[1] 2 x 8: no such device'


def sweep_over_engines():
    return Sweep([1, 2], [4, 8], ['val.total_ips', 'val.latency_avg'], {'options': {}}, ['mxnet', 'openvino'])


def test_engines_in_one_table_file_and_picture(tmp_path):
    sweep = sweep_over_engines()
    *done, last = sweep.runs()
    assert done[:2] == [Run(1, 4, 'mxnet'), Run(1, 4, 'openvino')]
    for number, run in enumerate(done[1:]):
        sweep.add(run, 'net', {'val.total_ips': 100.0 + number, 'val.latency_avg': 0.01})
    sweep.fail(done[0], 'no such engine')
    lines = text_tables(sweep).splitlines()
    assert lines[0].split()[0] == 'engine'
    assert sum(line.split()[:1] == ['openvino'] for line in lines) == 3
    assert lines[-1] == '[1] 1 x 4, mxnet: no such engine'
    sweep.save(tmp_path / 'sweep.json')
    again = sweep_over_engines()
    assert again.resume(tmp_path / 'sweep.json') == len(done)
    assert again.value(Run(2, 4, 'openvino'), 'val.total_ips') == sweep.value(Run(2, 4, 'openvino'), 'val.total_ips')
    assert again.failures() == sweep.failures()
    assert not again.is_done(last)
    with pytest.raises(UserError, match='an interrupted sweep with other options'):
        Sweep([1, 2], [4, 8], sweep.metric_keys, {'options': {}}, ['mxnet']).resume(tmp_path / 'sweep.json')
    plot(sweep, tmp_path / 'sweep.png')
    assert cv2.imread(str(tmp_path / 'sweep.png')).std() > 10


@pytest.mark.parametrize('metrics', [{'1': {'8': {'val.total_ips': 1}}}, {'mxnet': {'x': {}}}, {'mxnet': []}])
def test_file_of_engines_with_other_rows(tmp_path, metrics):
    sweep = sweep_over_engines()
    sweep.save(tmp_path / 'sweep.json')
    content = json.loads((tmp_path / 'sweep.json').read_text())
    (tmp_path / 'sweep.json').write_text(json.dumps({**content, 'metrics': metrics}))
    with pytest.raises(UserError, match='not a sweep'):
        sweep_over_engines().resume(tmp_path / 'sweep.json')


def test_file_that_is_no_sweep(tmp_path):
    path = tmp_path / 'out.json'
    for content in ('', '[]', '{"a": 1}'):
        path.write_text(content)
        with pytest.raises(UserError, match='not a sweep'):
            Sweep([1], [8], [], {'options': {}}).resume(path)
