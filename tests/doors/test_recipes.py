"""recipes/: option files that runner, benchmark.py and train.py read in the same way."""

import shlex
import sys

import pytest

from helpers.commands import PROJECT, assert_user_error, call_here, succeed_here
from imagenet.common.options import pick
from imagenet.training.lr_schedule import ScheduleOptions, get_schedule
from imagenet.training.resolution_schedule import ResolutionOptions, get_stages, stage_at
from train import complete_network, parse_args

RECIPES = sorted((PROJECT / 'recipes').glob('*.args'))
# A recipe has the options that change the results; these depend on the machine.
OF_A_MACHINE = {'-n', '--ngpus', '-b', '--batch-size', '--device', '--dtype', '--data-root', '--workspace'}


def dry_run(*options):
    """Return the words of the train.py command that `runner` would start."""
    return succeed_here('./runner', *options, '--device', 'cpu', '--dry-run').splitlines()[-1].split()


@pytest.mark.parametrize('path', RECIPES, ids=lambda path: path.stem)
def test_recipe(path):
    first, *_ = path.read_text(encoding='utf-8').splitlines()
    assert first.startswith('# ')
    assert '% top-1' in path.read_text(encoding='utf-8')
    parse_args([f'@{path}'])
    assert not OF_A_MACHINE.intersection(shlex.split(path.read_text(encoding='utf-8'), comments=True))
    assert '--num-epochs' in dry_run(f'@{path}')


def options_of(recipe, *options):
    """Return the options that `runner` passes to train.py with a recipe."""
    words = dry_run(f'@recipes/{recipe}.args', *options)
    return complete_network(parse_args(words[words.index('--mode') :]))[0]


@pytest.mark.parametrize(
    ('recipe', 'options', 'peak'),
    [
        # The rates that NVIDIA's scripts give for 8 A100, 0.005 for 128 images.
        ('efficientnet_b0', ('-n', '8', '-b', '1024'), 0.32),
        ('efficientnet_b4', ('-n', '8', '-b', '160'), 0.05),
        ('resnet50_a1', ('-n', '4', '-b', '512'), 0.005),
        ('resnet50_a3', ('-n', '4', '-b', '512'), 0.008),
    ],
)
def test_published_learning_rate(recipe, options, peak):
    args = options_of(recipe, *options)
    schedule = get_schedule(pick(ScheduleOptions, args))
    assert args.warmup_epochs == 5
    assert schedule(5) == pytest.approx(peak, rel=1e-9)
    half = 5 + (args.num_epochs - 5) / 2
    assert schedule(half) == pytest.approx(peak / 2, rel=1e-9)
    assert schedule(2.5) == pytest.approx(peak / 2, rel=1e-9)


def test_published_stages():
    """fast.ai's schedule for one machine: the learning rate at the beginning and before the end of its phases."""
    args = options_of('resnet50_progressive_28e', '-n', '8')
    stages, schedule = get_stages(pick(ResolutionOptions, args)), get_schedule(pick(ScheduleOptions, args))
    assert [stage.batch_size for stage in stages] == [8 * 512, 8 * 224, 8 * 128]

    def rate(epoch):
        return schedule(epoch) * stage_at(stages, epoch).batch_size / args.batch_size

    phases = {(0, 7): (1, 2), (7, 13): (2, 0.25), (13, 22): (0.4375, 0.04375), (22, 25): (0.04375, 0.004375)}
    phases[25, 28] = (0.0025, 0.00025)
    for (begin, end), rates in phases.items():
        assert (rate(begin), rate(end - 1e-9)) == pytest.approx(rates, rel=1e-6)


def test_later_options_win(tmp_path):
    recipe = tmp_path / 'recipe.args'
    recipe.write_text("# 9 epochs\n\n--num-epochs 9  # and not 90\n--log 'my log'\n")
    args = parse_args([f'@{recipe}', '--num-epochs', '3'])
    assert (args.num_epochs, args.log) == (3, 'my log')
    assert parse_args([f'@{recipe}']).num_epochs == 9


def test_options_that_the_launcher_does_not_know_pass_through(tmp_path):
    recipe = tmp_path / 'recipe.args'
    recipe.write_text('--mixup 0.2 -e 7\n')
    assert '--mixup 0.2' in succeed_here('./runner', f'@{recipe}', '--device', 'cpu', '--dry-run')


def test_missing_recipe():
    for program in (('./runner',), (sys.executable, 'train.py')):
        assert_user_error(
            call_here(*program, '@none.args'), '@none.args: cannot read this recipe (No such file or directory)'
        )
