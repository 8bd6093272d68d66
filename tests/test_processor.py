"""processor.py: what MXNet's oneDNN can compute with on which processor, and whole runs on old ones."""

import os
import subprocess
import sys

import pytest
from conftest import PROJECT, SMALL, assert_user_error, call, succeed, train_small

from imagenet.common.errors import UserError
from imagenet.reporting.report_file import read_report
from imagenet.runtime import processor
from imagenet.runtime.processor import EXACT, LIMIT, SATURATING, TILES, best_instruction_set

SANDY_BRIDGE = {'sse4_1', 'avx'}
HASWELL = SANDY_BRIDGE | {'avx2'}
ALDER_LAKE = HASWELL | {'avx_vnni'}
SKYLAKE = HASWELL | {'avx512f', 'avx512bw', 'avx512vl', 'avx512dq'}
CASCADE_LAKE = SKYLAKE | {'avx512_vnni'}
ZEN_4 = CASCADE_LAKE | {'avx512_bf16'}
SAPPHIRE_RAPIDS = ZEN_4 | {'avx_vnni', 'amx_tile', 'amx_int8', 'amx_bf16'}
# How oneDNN names them in its log.
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


@pytest.mark.parametrize(
    ('flags', 'name', 'bfloat16', 'int8'),
    [
        (SANDY_BRIDGE, 'AVX', None, SATURATING),
        (HASWELL, 'AVX2', None, SATURATING),
        (ALDER_LAKE, 'AVX2_VNNI', None, EXACT),
        (SKYLAKE, 'AVX512_CORE', 'emulated', SATURATING),
        (CASCADE_LAKE, 'AVX512_CORE_VNNI', 'emulated', EXACT),
        (ZEN_4, 'AVX512_CORE_BF16', 'native', EXACT),
        # Matrix tiles are used only if the limit names them.
        (SAPPHIRE_RAPIDS, 'AVX512_CORE_BF16', 'native', EXACT),
    ],
)
def test_processors(flags, name, bfloat16, int8):
    found = best_instruction_set(flags)
    assert (found.name, found.bfloat16, found.int8) == (name, bfloat16, int8)


def test_limits():
    assert best_instruction_set(ZEN_4, 'AVX2').name == 'AVX2'
    assert best_instruction_set(HASWELL, 'AVX512_CORE').name == 'AVX2'
    assert best_instruction_set(SAPPHIRE_RAPIDS, 'AVX512_CORE_AMX').int8 == TILES
    # oneDNN does not know these, and ignores them.
    assert best_instruction_set(ZEN_4, 'avx2').name == best_instruction_set(ZEN_4, 'ALL').name == 'AVX512_CORE_BF16'
    with pytest.raises(UserError, match='SSE4.1'):
        best_instruction_set({'sse2'})


@pytest.mark.parametrize('limit', [None, 'SSE41', 'AVX', 'AVX2', 'AVX512_MIC', 'AVX512_CORE', 'avx2'])
def test_onednn_uses_what_is_expected(monkeypatch, limit):
    """By its own log; the default includes AMX on a processor that has it."""
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


def test_matrix_tiles_that_the_kernel_refuses(monkeypatch):
    """Using them would end the process with SIGILL."""
    monkeypatch.setattr(processor, 'cpu_flags', lambda: SAPPHIRE_RAPIDS)
    monkeypatch.setattr(processor, 'XFEATURE_XTILEDATA', -1)
    for chosen, expected in ((None, None), ('AVX2', 'AVX2'), ('AVX512_CORE_AMX', 'AVX512_CORE_BF16')):
        monkeypatch.delenv(LIMIT, raising=False)
        if chosen is not None:
            monkeypatch.setenv(LIMIT, chosen)
        processor.allow_matrix_tiles()
        assert os.environ.get(LIMIT) == expected


def test_emulated_bfloat16_is_logged(monkeypatch):
    monkeypatch.setattr(processor, 'cpu_flags', lambda: SKYLAKE)
    monkeypatch.delenv(LIMIT, raising=False)
    assert processor.check_bfloat16('--amp').startswith('--amp: AVX512_CORE has no bfloat16 instructions')
    monkeypatch.setattr(processor, 'cpu_flags', lambda: ZEN_4)
    assert processor.check_bfloat16('--amp') is None


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
    """Training, validation, int8 and export, all but mixed precision."""
    monkeypatch.setenv(LIMIT, limit)
    train_small(small_data, tmp_path, '-e', '1', '--warmup-epochs', '0')
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
