"""The commands started on GPU servers, as far as they can be tested without a GPU."""

import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

from helpers.commands import PROJECT, succeed
from imagenet.checkpoints.parameters import canonical_arrays, write_arrays
from imagenet.runtime.compat import mx
from models import get_model, initialize, model_options
from train import parse_args

SECTIONS = ('## On a GPU server', '## On a cluster')
# Each command as `$ command`, then its output. Made with
# `PYTHONPATH=.:tests python tests/programs/test_gpu_commands.py`.
EXPECTED = PROJECT / 'tests' / 'data' / 'gpu_commands.txt'
PLACE = '/home/me/imagenet-mxnet'


def documented_commands():
    """Return the `./runner` commands of the README's sections about GPUs, without their comments."""
    text = (PROJECT / 'README.md').read_text(encoding='utf-8')
    sections = [part for part in re.split(r'^(?=## )', text, flags=re.MULTILINE) if part.startswith(SECTIONS)]
    assert len(sections) == len(SECTIONS)
    found = re.findall(r'^    (\./runner [^#\n]*)', '\n'.join(sections), flags=re.MULTILINE)
    return list(dict.fromkeys(command.rstrip() for command in found if '--check' not in command))


def dry_run(command):
    """Return what `--device gpu --dry-run` prints, with the project's folder replaced by `PLACE`."""
    program, *options = shlex.split(command)
    # The output must not depend on this machine's environment variables.
    environment = {'PATH': '/usr/bin:/bin'}
    printed = subprocess.run(
        [sys.executable, PROJECT / program, *options, '--device', 'gpu', '--dry-run'],
        env=environment,
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    return printed.replace(str(PROJECT), PLACE)


def expected_output():
    """Return {command: expected output}."""
    blocks = re.split(r'^\$ ', EXPECTED.read_text(encoding='utf-8'), flags=re.MULTILINE)[1:]
    return dict(block.split('\n', 1) for block in blocks)


def test_every_documented_command_is_known():
    assert list(expected_output()) == documented_commands()
    assert len(documented_commands()) >= 8


@pytest.mark.parametrize('command', documented_commands())
def test_documented_command(command):
    assert dry_run(command) == expected_output()[command]


def test_the_full_graph_goes_to_a_cpu_and_predicts(small_tree, tmp_path):
    """The fused float16 NHWC graph with four channels can be built, and its parameters work in a CPU's network."""
    words = shlex.split(dry_run('./runner -n 8 -b 192').splitlines()[-1])
    args = parse_args(words[words.index(f'{PLACE}/train.py') + 1 :])
    assert args.input_channels == 4
    args.num_classes, args.image_shape = 1000, (4, 224, 224)
    net = get_model(**model_options(args))
    assert (net.input_layout, net.input_channels, args.dtype) == ('NCHW', 4, 'float16')
    initialize(net, [mx.cpu()])
    net.cast(args.dtype)
    logits = net(mx.sym.var('data', dtype='float16'))
    _, shapes, _ = logits.infer_shape(data=(192, *args.image_shape))
    _, types, _ = logits.infer_type(data='float16')
    assert (shapes, [np.dtype(kind) for kind in types]) == ([(192, 1000)], [np.float32])
    layouts = {node.attr('layout') for node in logits.get_internals() if node.attr('kernel')}
    assert layouts == {'NHWC'}
    write_arrays(tmp_path / 'net.params', canonical_arrays(net))
    image = min((small_tree / 'val' / '0_zero').iterdir())
    shown = succeed(
        './runner', '--device', 'cpu', '--mode', 'pred', '--load', tmp_path / 'net.params', '--data-pred', image
    )
    assert len(shown.splitlines()) == 10


if __name__ == '__main__':
    EXPECTED.parent.mkdir(exist_ok=True)
    blocks = [f'$ {command}\n{dry_run(command)}' for command in documented_commands()]
    EXPECTED.write_text(''.join(blocks), encoding='utf-8')
