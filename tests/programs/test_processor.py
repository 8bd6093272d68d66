"""Complete runs with the instruction sets of old processors, and the one that oneDNN reports."""

import os
import subprocess
import sys

import pytest

from helpers.commands import PROJECT, SMALL, assert_user_error, call, succeed, training
from imagenet.reporting.report_file import read_report
from imagenet.runtime import processor
from imagenet.runtime.processor import LIMIT, SATURATING, TILES

# The names of the instruction sets in oneDNN's log.
TITLES = {
    'SSE41': 'Intel SSE4.1',
    'AVX': 'Intel AVX',
    'AVX2': 'Intel AVX2',
    'AVX2_VNNI': 'Intel AVX2 with Intel DL Boost',
    'AVX512_MIC': 'Intel AVX-512',
    'AVX512_CORE': 'Intel AVX-512 with AVX512BW, AVX512VL, and AVX512DQ extensions',
    'AVX512_CORE_VNNI': 'Intel AVX-512 with Intel DL Boost',
    'AVX512_CORE_BF16': 'Intel AVX-512 with Intel DL Boost and bfloat16 support',
}


CONVOLUTION = """
from imagenet.runtime.compat import mx
ones = mx.nd.ones((1, 8, 8, 8))
mx.nd.Convolution(ones, ones, no_bias=True, kernel=(8, 8), num_filter=1).wait_to_read()
"""


@pytest.mark.parametrize('limit', [None, 'SSE41', 'AVX', 'AVX2', 'AVX512_MIC', 'AVX512_CORE', 'avx2'])
def test_onednn_uses_what_is_expected(monkeypatch, limit):
    """oneDNN's log confirms it. The default includes AMX if the processor has it."""
    monkeypatch.delenv(LIMIT, raising=False)
    if limit is not None:
        monkeypatch.setenv(LIMIT, limit)
    command = [sys.executable, '-c', CONVOLUTION]
    log = subprocess.run(command, cwd=PROJECT, env={**os.environ, 'DNNL_VERBOSE': '1'}, capture_output=True, text=True)
    (line,) = (line for line in log.stdout.splitlines() if 'info,cpu,isa' in line)
    expected = processor.instruction_set()
    if expected.int8 == TILES:
        assert 'AMX' in line
    else:
        assert line.split('isa:')[1] == TITLES[expected.name]


@pytest.mark.parametrize('processes', [1, 2])
def test_mixed_precision_without_bfloat16(tmp_path, processes):
    command = ['./runner', '-n', processes, '--data-backend', 'synthetic', '--amp', '--workspace', tmp_path]
    result = call(*command, '--device', 'cpu', env={LIMIT: 'AVX2'})
    assert_user_error(result, '--amp: bfloat16 needs AVX-512', 'leave out --amp')


def test_check_shows_the_instruction_set():
    output = succeed('./runner', '--check', env={LIMIT: 'SSE41'})
    rows = dict(line.split('  ', 1) for line in output.splitlines() if '  ' in line)
    assert rows['CPU instruction set'].strip().startswith('SSE41')
    assert rows['bfloat16 on the CPU (--amp)'].strip() == 'none: needs AVX-512'
    assert rows['int8 on the CPU (--mode calibrate)'].strip() == SATURATING


@pytest.mark.parametrize('limit', ['AVX2', 'SSE41'])
def test_old_processors_do_everything(monkeypatch, small_data, tmp_path, limit):
    """Training, validation, int8 and export work; only mixed precision does not."""
    monkeypatch.setenv(LIMIT, limit)
    succeed(*training(small_data, tmp_path, '-e', '1', '--warmup-epochs', '0'))
    checkpoint = tmp_path / 'model_best.params'
    run = ('./runner', *SMALL, '--data-root', small_data, '--workspace', tmp_path, '--load', checkpoint)

    def validated(*options):
        succeed(*run, '--mode', 'val', *options)
        return read_report(tmp_path / 'val_report.json')['metrics']['val.top1']

    best = read_report(tmp_path / 'report.json')['metrics']['val.top1']
    assert validated() == best
    assert validated('--no-fuse') == best
    output = succeed(*run, '--mode', 'calibrate', '--calib-images', '16', '--max-drop', '1', '-o', tmp_path / 'net')
    assert f'int8 with {limit}' in output
    assert len(validated('--load', tmp_path / 'net-int8')) == 1
    succeed(*run, '--mode', 'export', '-o', tmp_path / 'net')
    assert (tmp_path / 'net-symbol.json').exists()
