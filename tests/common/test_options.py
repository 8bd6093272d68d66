"""Range checks in train.py's argument types: one line names the option, its value and the range."""

import pytest

from imagenet.common.errors import UserError
from imagenet.common.modes import Mode
from imagenet.common.options import check_utf8
from imagenet.runtime.devices import choose_dtype
from train import parse_args


@pytest.mark.parametrize(
    ('option', 'value', 'rule'),
    [
        ('--batch-size', '0', '1 to 1000000'),
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
        ('--lr', '-0.1', '0 to 1e+38'),
        ('--warmup-epochs', '-1', 'at least 0'),
        ('--lr-factor', '-1', '0 to 100'),
        ('--lr-decay-rate', '0', 'more than 0 and at most 1'),
        ('--lr-decay-epochs', '0', 'at least 0.001'),
        ('--lr-points', '0', 'two numbers with a colon in between'),
        ('--min-lr', '-1', '0 to 1e+38'),
        ('--cooldown-epochs', '-1', 'at least 0'),
        ('--wd-exclude', 'weights', 'none, or some of batchnorm, bias, depthwise, separated by commas'),
        ('--mean-square-decay', '1', 'at least 0 and less than 1'),
        ('--optimizer-eps', '0', '1e-37 to 1'),
        ('--mom', '1', 'at least 0 and less than 1'),
        ('--wd', '-1', 'at least 0'),
        ('--label-smoothing', '1', 'at least 0 and less than 1'),
        ('--mixup', '-0.1', '0 to 1000'),
        ('--grad-accum-steps', '0', 'at least 1'),
        ('--grad-clip-norm', '0', 'more than 0'),
        ('--ema-decay', '1', 'more than 0 and less than 1'),
        ('--num-groups', '0', '1 to 1024'),
        ('--num-classes', '0', '1 to 1000000'),
        ('--batchnorm-eps', '0', 'more than 0 and less than 1'),
        ('--batchnorm-mom', '1', 'at least 0 and less than 1'),
        ('--num-examples', '0', 'at least 1'),
        ('--data-val-resize', '0', '1 to 8192'),
        ('--crop-fraction', '0', 'more than 0 and at most 1'),
        ('--crop-fraction', '1.01', 'more than 0 and at most 1'),
        ('--max-random-area', '1.5', 'more than 0 and at most 1'),
        ('--min-random-aspect-ratio', '0', '0.001 to 1000'),
        ('--data-mxnet-threads', '0', '1 to 1024'),
        ('--max-random-h', '200', '0 to 180'),
        ('--contrast', '-0.5', '0 to 100'),
        ('--dali-threads', '0', '1 to 1024'),
        ('--dali-prefetch-queue', '0', '1 to 100'),
        ('--dali-nvjpeg-memory-padding', '-1', '0 to 65536'),
        ('--calib-images', '0', '1 to 1000000'),
        ('--max-drop', '1.1', '0 to 1'),
        ('--profile', '0', 'at least 1'),
        ('--num-examples', '1000000000000', 'at most 2147483647'),
        ('--wd', '1e300', 'at most 2147483647'),
        ('--gpus', '-1', '0 to 99'),
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


def error_of(capsys, *args):
    with pytest.raises(SystemExit) as exit_:
        parse_args(args)
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ('option', 'value', 'message'),
    [
        ('--image-shape', '3,1000000,32', '--image-shape 1000000: must be 1 to 8192; see'),
        ('--image-shape', '3,x,32', '--image-shape x: must be a whole number; see'),
        ('--image-shape', '4', '--image-shape 4: must be CHANNELS,HEIGHT,WIDTH with 3 or 4 channels; see'),
        ('--max-random-shear-ratio', '1e-320', '--max-random-shear-ratio 1e-320: must be 0 or at least 1e-37; see'),
        ('--lr-steps', '1,' * 60_000, '…: must be at most 100 values; see'),
        ('--batch-size', '9' * 100_000, '…: must be a whole number; see'),
        ('--batch-size', '1\n2', r'1\n2: must be a whole number; see'),
        ('--mode', 'x' * 100_000, "--mode: invalid choice: 'xxx"),
    ],
    ids=range(8),
)
def test_error_is_a_short_line(capsys, option, value, message):
    line = error_of(capsys, option, value)
    assert message in line
    assert len(line) < 1100


@pytest.mark.parametrize(
    ('content', 'problem'),
    [
        (b'@FILE', 'more than 100 recipes in one command'),
        (b'@FILE\n' * 100, 'more than 100 recipes in one command'),
        (bytes(range(256)), 'not a text file'),
        (b'--seed \xff', "can't decode"),
        (b'--seed "1', 'No closing quotation'),
        (b'--seed 1\n' * 10_000, 'not a text file'),
        (None, 'Is a directory'),
    ],
    ids=range(7),
)
def test_recipe_that_cannot_be_read(capsys, tmp_path, content, problem):
    path = tmp_path / 'recipe.args'
    path.mkdir() if content is None else path.write_bytes(content.replace(b'FILE', bytes(path)))
    assert problem in error_of(capsys, f'@{path}')


def test_crop_in_two_ways(capsys):
    line = error_of(capsys, '--data-val-resize', '256', '--crop-fraction', '0.875')
    assert '--crop-fraction: not allowed with argument --data-val-resize; see' in line


def test_recipes_in_recipes(tmp_path):
    (tmp_path / 'inner.args').write_text('--seed 2  # a comment\n--lr 0.5\n')
    (tmp_path / 'outer.args').write_text(f'--seed 1 @{tmp_path}/inner.args\n--wd 0.25\n')
    args = parse_args(['--seed', '3', f'@{tmp_path}/outer.args', '--wd', '0.5'])
    assert (args.seed, args.lr, args.wd) == (2, 0.5, 0.5)


def test_names_that_mxnet_cannot_open():
    check_utf8(parse_args(['--workspace', 'é']))
    with pytest.raises(UserError, match='--workspace a\udcff: not valid UTF-8'):
        check_utf8(parse_args(['--workspace', 'a\udcff']))
