"""benchmark.py: invalid options."""

import sys

import pytest

from helpers.commands import assert_user_error, call_here


def benchmark(*options):
    return [sys.executable, 'benchmark.py', *map(str, options)]


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        (('-b', '0'), '--batch-sizes 0'),
        (('-b', '8,8'), '-b 8,8'),
        (('-b', '8', '-e', '0'), '--epochs 0'),
        (('-b', '8', '--timeout', '0'), '--timeout 0'),
        (('-b', '8', '--engine', 'openvino'), '--engine openvino: needs --mode val'),
        (('-b', '8', '--mode', 'val', '--engine', 'mxnet,tvm'), '--engine mxnet,tvm: must be some of mxnet, '),
        (('-b', '8', '--mode', 'val', '--engine', 'mxnet,mxnet'), '--engine mxnet,mxnet: no value may repeat'),
        (('-b', '8', '-o', '/nowhere/out.json'), '--output /nowhere/out.json'),
        (('-b', '8', '--executable', './nothing'), '--executable ./nothing'),
        ((), '-b'),
    ],
)
def test_bad_options(options, expected):
    assert_user_error(call_here(*benchmark(*options)), expected)
