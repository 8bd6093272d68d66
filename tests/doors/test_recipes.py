"""recipes/: option files that runner, benchmark.py and train.py read in the same way."""

import shlex
import sys

import pytest

from helpers.commands import PROJECT, assert_user_error, call_here, succeed_here
from train import parse_args

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
