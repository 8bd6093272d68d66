"""What MXNet can compute on this processor: whether it has bfloat16, and how exact int8 is.

On a CPU, MXNet 1.9.1 computes with oneDNN 2.4.4, which picks its kernels by the processor's instruction set and reports
a missing kernel only when it is first called. This module finds out before the run starts. The environment variable
DNNL_MAX_CPU_ISA limits the instruction set; see oneDNN's documentation, "CPU Dispatcher Control" and "Nuances of int8
Computations".

This module needs only Python's standard library.
"""

import ctypes
import os
from collections import namedtuple
from pathlib import Path

from imagenet.common.errors import UserError

LIMIT = 'DNNL_MAX_CPU_ISA'
CPU_INFO = Path('/proc/cpuinfo')
# Constants of Linux on x86-64; see Documentation/arch/x86/xstate.rst in the kernel's sources.
SYS_ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA = 158, 0x1023, 18

SATURATING = 'sums saturate at 16 bits (no VNNI)'
EXACT = 'exact sums (VNNI)'
TILES = 'exact sums (AMX)'
# name: a value of DNNL_MAX_CPU_ISA
# flags: features that the processor must have, as /proc/cpuinfo names them
# bfloat16: None, 'emulated', 'native' or 'matrix tiles (AMX)'
# int8: how products are added up
InstructionSet = namedtuple('InstructionSet', 'name flags bfloat16 int8')

_AVX512 = ('avx512f', 'avx512bw', 'avx512vl', 'avx512dq')
_VNNI = (*_AVX512, 'avx512_vnni')
_BF16 = (*_VNNI, 'avx512_bf16')
# Ascending: oneDNN uses the last one that the processor has, up to the limit.
INSTRUCTION_SETS = (
    InstructionSet('SSE41', ('sse4_1',), None, SATURATING),
    InstructionSet('AVX', ('avx',), None, SATURATING),
    InstructionSet('AVX2', ('avx2',), None, SATURATING),
    InstructionSet('AVX2_VNNI', ('avx2', 'avx_vnni'), None, EXACT),
    InstructionSet('AVX512_MIC', ('avx512f',), None, SATURATING),
    InstructionSet('AVX512_CORE', _AVX512, 'emulated', SATURATING),
    InstructionSet('AVX512_CORE_VNNI', _VNNI, 'emulated', EXACT),
    InstructionSet('AVX512_CORE_BF16', _BF16, 'native', EXACT),
    InstructionSet('AVX512_CORE_AMX', (*_BF16, 'amx_tile', 'amx_int8', 'amx_bf16'), 'matrix tiles (AMX)', TILES),
)
WITH_TILES = INSTRUCTION_SETS[-1].name
# oneDNN uses matrix tiles only if the limit names them.
DEFAULT_LIMIT = INSTRUCTION_SETS[-2].name


def cpu_flags():
    """Return the processor's features, as the kernel names them."""
    lines = CPU_INFO.read_text(encoding='utf-8').splitlines()
    return set(next((line.split(':', 1)[1].split() for line in lines if line.startswith('flags')), ()))


def allow_matrix_tiles():
    """Let oneDNN compute int8 and bfloat16 with the processor's matrix tiles (AMX), if it has them.

    The kernel requires a process to request the tiles before it uses them. MXNet's oneDNN is older than this rule: it
    uses the tiles only if DNNL_MAX_CPU_ISA names them, and never requests them. A limit that the user has set is kept.
    """
    if 'amx_int8' not in cpu_flags():
        return
    if ctypes.CDLL(None).syscall(SYS_ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0:
        os.environ.setdefault(LIMIT, WITH_TILES)
    elif os.environ.get(LIMIT) == WITH_TILES:
        # The first tile instruction would end the process with SIGILL.
        os.environ[LIMIT] = DEFAULT_LIMIT


def instruction_set():
    """Return the `InstructionSet` that oneDNN uses in this process."""
    allow_matrix_tiles()
    return best_instruction_set(cpu_flags(), os.environ.get(LIMIT))


def best_instruction_set(flags, limit=None):
    """Return the best `InstructionSet` of a processor up to a limit; oneDNN ignores a limit that it does not know."""
    names = [candidate.name for candidate in INSTRUCTION_SETS]
    last = names.index(limit if limit in names else DEFAULT_LIMIT)
    found = [candidate for candidate in INSTRUCTION_SETS[: last + 1] if flags.issuperset(candidate.flags)]
    if not found:
        raise UserError('MXNet needs an x86-64 processor with SSE4.1: this one does not list it in /proc/cpuinfo')
    return found[-1]


def describe(found):
    """Return the name of an `InstructionSet`, with a remark if DNNL_MAX_CPU_ISA prevents a better one."""
    limit = os.environ.get(LIMIT)
    is_limited = limit is not None and found != best_instruction_set(cpu_flags())
    return f'{found.name} (limited by {LIMIT}={limit})' if is_limited else found.name


def check_bfloat16(option):
    """Raise `UserError` if this processor cannot compute in bfloat16.

    Args:
        option: the option that needs bfloat16, named in the message.

    Returns:
        A line for the log if bfloat16 is slow here, else None.
    """
    found = instruction_set()
    if found.bfloat16 is None:
        raise UserError(
            f'{option}: bfloat16 needs AVX-512, but MXNet computes with {describe(found)} here; '
            f'leave out {option} to compute in float32'
        )
    if found.bfloat16 == 'emulated':
        return f'{option}: {describe(found)} has no bfloat16 instructions; emulation is slower than float32'
    return None


def int8_note():
    """Return a line for the log if int8 is less exact on this processor than on others, else None."""
    found = instruction_set()
    if found.int8 != SATURATING:
        return None
    return f'int8 with {describe(found)}, without VNNI: sums saturate at 16 bits, which can cost accuracy'
