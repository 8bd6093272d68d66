"""report.py as a user starts it."""

import sys

from helpers.commands import succeed


def test_show(saved):
    lines = succeed('./report.py', 'show', saved).splitlines()
    assert lines[0] == 'resnetv15-18 on 2 devices, 3 epochs in 12.5 s'
    assert lines[1] == 'train.py --seed 1'
    assert lines[3].split() == ['epoch', 'train.loss', 'train.top1', 'train.total_ips', 'val.top1']
    assert lines[-2].split() == ['3', '0', '0.6', '100', '0.5']
    assert lines[-1] == 'best top-1 0.5000 in epoch 3, of the parameters'


def test_showing_does_not_wait_for_mxnet(saved):
    code = f'import sys, report; sys.argv[1:] = ["show", {str(saved)!r}]; report.main(); print("mxnet" in sys.modules)'
    assert succeed(sys.executable, '-c', code).splitlines()[-1] == 'False'
