"""Range checks in train.py's argument types: one line names the option, its value and the range."""

import pytest

from imagenet.common.errors import UserError
from imagenet.common.modes import Mode
from imagenet.runtime.devices import choose_dtype
from train import parse_args


@pytest.mark.parametrize(
    ('option', 'value', 'rule'),
    [
        ('--batch-size', '0', 'at least 1'),
        ('--num-epochs', '0', 'at least 1'),
        ('--disp-batches', '0', 'at least 1'),
        ('--benchmark-iters', '0', 'at least 1'),
        ('--seed', '-1', '0 to 2147483647'),
        ('--seed', '2147483648', '0 to 2147483647'),
        ('--run-epochs', '-2', 'at least -1'),
        ('--begin-epoch', '-1', 'at least 0'),
        ('--early-stop-top1', '0', 'more than 0 and at most 1'),
        ('--early-stop-top1', '1.5', 'more than 0 and at most 1'),
        ('--save-frequency', '-2', 'at least -1'),
        ('--lr', '-0.1', 'at least 0'),
        ('--warmup-epochs', '-1', 'at least 0'),
        ('--lr-factor', '-1', 'at least 0'),
        ('--mom', '1', 'at least 0 and less than 1'),
        ('--wd', '-1', 'at least 0'),
        ('--label-smoothing', '1', 'at least 0 and less than 1'),
        ('--mixup', '-0.1', 'at least 0'),
        ('--grad-accum-steps', '0', 'at least 1'),
        ('--grad-clip-norm', '0', 'more than 0'),
        ('--ema-decay', '1', 'more than 0 and less than 1'),
        ('--num-groups', '0', 'at least 1'),
        ('--num-classes', '0', 'at least 1'),
        ('--batchnorm-eps', '0', 'more than 0 and less than 1'),
        ('--batchnorm-mom', '1', 'at least 0 and less than 1'),
        ('--num-examples', '0', 'at least 1'),
        ('--data-val-resize', '0', 'at least 1'),
        ('--max-random-area', '1.5', 'more than 0 and at most 1'),
        ('--min-random-aspect-ratio', '0', 'more than 0'),
        ('--data-mxnet-threads', '0', 'at least 1'),
        ('--max-random-h', '200', '0 to 180'),
        ('--contrast', '-0.5', 'at least 0'),
        ('--dali-threads', '0', 'at least 1'),
        ('--dali-prefetch-queue', '0', 'at least 1'),
        ('--dali-nvjpeg-memory-padding', '-1', 'at least 0'),
        ('--calib-images', '0', 'at least 1'),
        ('--max-drop', '1.1', '0 to 1'),
        ('--profile', '0', 'at least 1'),
    ],
)
def test_out_of_range(capsys, option, value, rule):
    with pytest.raises(SystemExit) as exit_:
        parse_args([option, value])
    assert exit_.value.code == 2
    assert capsys.readouterr().err.startswith(f'error: {option} {value}: must be {rule}; see ')


WORDS = [
    ('--lr', 'nan', 'a number'),
    ('--lr', 'inf', 'a number'),
    ('--wd', 'much', 'a number'),
    ('--seed', '1.5', 'a whole number'),
]


@pytest.mark.parametrize(('option', 'value', 'rule'), WORDS)
def test_no_number(capsys, option, value, rule):
    with pytest.raises(SystemExit):
        parse_args([option, value])
    assert capsys.readouterr().err.startswith(f'error: {option} {value}: must be {rule}; see ')


def test_unknown_mode(capsys):
    with pytest.raises(SystemExit):
        parse_args(['--mode', 'test'])
    assert "--mode: invalid choice: 'test' (choose from 'train_val', 'train', 'val'" in capsys.readouterr().err


def test_modes():
    """Each mode does the same as in every earlier version."""
    assert [str(mode) for mode in Mode if mode.trains] == ['train_val', 'train']
    assert [str(mode) for mode in Mode if mode.validates] == ['train_val', 'val', 'calibrate']
    assert [str(mode) for mode in Mode if mode.needs_data] == ['train_val', 'train', 'val', 'calibrate']
    assert [str(mode) for mode in Mode if mode.is_single_process] == ['pred', 'calibrate', 'export']


def test_mixed_precision_chooses_its_own_precisions():
    with pytest.raises(UserError, match='--amp with --dtype float16'):
        choose_dtype('gpu', 'float16', amp=True)
    assert choose_dtype('gpu', None, amp=True) == 'float32'
    assert choose_dtype('gpu', None, amp=False) == 'float16'
