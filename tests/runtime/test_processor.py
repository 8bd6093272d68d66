"""processor.py: which instructions MXNet's oneDNN can use on which processor."""

import os

import pytest

from imagenet.common.errors import UserError
from imagenet.runtime import processor
from imagenet.runtime.processor import EXACT, LIMIT, SATURATING, TILES, best_instruction_set

SANDY_BRIDGE = {'sse4_1', 'avx'}


HASWELL = SANDY_BRIDGE | {'avx2'}


ALDER_LAKE = HASWELL | {'avx_vnni'}


SKYLAKE = HASWELL | {'avx512f', 'avx512bw', 'avx512vl', 'avx512dq'}


CASCADE_LAKE = SKYLAKE | {'avx512_vnni'}


ZEN_4 = CASCADE_LAKE | {'avx512_bf16'}


SAPPHIRE_RAPIDS = ZEN_4 | {'avx_vnni', 'amx_tile', 'amx_int8', 'amx_bf16'}


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
    # oneDNN ignores values that it does not know.
    assert best_instruction_set(ZEN_4, 'avx2').name == best_instruction_set(ZEN_4, 'ALL').name == 'AVX512_CORE_BF16'
    with pytest.raises(UserError, match='SSE4.1'):
        best_instruction_set({'sse2'})


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
