"""lr_schedule.py, compared with the learning rates that users of the recipe know."""

import json
from argparse import Namespace

import pytest

from helpers.commands import PROJECT
from imagenet.training.lr_schedule import get_schedule

REFERENCE = json.loads((PROJECT / 'tests' / 'data' / 'lr_schedules.json').read_text())


def name(case):
    return f'{case["lr_schedule"]}-lr{case["lr"]:g}-warmup{case["warmup_epochs"]}'


@pytest.mark.parametrize('case', REFERENCE, ids=name)
def test_reference(case):
    schedule = get_schedule(Namespace(**case))
    for epoch, expected in case['lr_at_epoch'].items():
        # With a warm-up of 0, the original divided by zero; here, training starts at the full rate.
        expected = case['lr'] if expected == 'ZeroDivisionError' else expected
        assert schedule(float(epoch)) == pytest.approx(expected, abs=1e-9)


def schedule_of(**settings):
    defaults = {
        'lr_schedule': 'cosine',
        'lr': 1.0,
        'num_epochs': 10,
        'warmup_epochs': 0,
        'lr_steps': (),
        'lr_factor': 0,
    }
    return get_schedule(Namespace(**{**defaults, **settings}))


@pytest.mark.parametrize('lr_schedule', ['cosine', 'multistep'])
def test_without_warmup_starts_at_the_full_rate(lr_schedule):
    assert schedule_of(lr_schedule=lr_schedule, lr=0.3, lr_steps=(5,), lr_factor=0.1)(0) == 0.3


def test_run_that_ends_in_the_warmup():
    assert schedule_of(num_epochs=2, warmup_epochs=4)(1) == 0.25


def test_steps_fall_where_they_are_said():
    schedule = schedule_of(lr_schedule='multistep', lr_steps=(2, 5), lr_factor=0.5)
    assert [schedule(epoch) for epoch in (0, 1.99, 2, 4.99, 5, 9)] == [1, 1, 0.5, 0.5, 0.25, 0.25]
