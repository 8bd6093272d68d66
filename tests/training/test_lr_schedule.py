"""lr_schedule.py, compared with the learning rates that users of the recipe know."""

import json

import numpy as np
import pytest

from helpers.commands import PROJECT
from imagenet.common.errors import UserError
from imagenet.common.options import ArgumentParser, pick, with_changes
from imagenet.training.lr_schedule import ScheduleOptions, add_schedule_args, get_schedule

REFERENCE = json.loads((PROJECT / 'tests' / 'data' / 'lr_schedules.json').read_text())


def name(case):
    return f'{case["lr_schedule"]}-lr{case["lr"]:g}-warmup{case["warmup_epochs"]}'


def schedule_of(**settings):
    parser = ArgumentParser()
    add_schedule_args(parser)
    settings = {'lr': 1.0, 'num_epochs': 10, 'warmup_epochs': 0, **settings}
    return get_schedule(pick(ScheduleOptions, with_changes(parser.parse_args([]), **settings)))


@pytest.mark.parametrize('case', REFERENCE, ids=name)
def test_reference(case):
    settings = {name: value for name, value in case.items() if name != 'lr_at_epoch'}
    schedule = schedule_of(**settings)
    for epoch, expected in case['lr_at_epoch'].items():
        # With a warm-up of 0, the original divided by zero; here, training starts at the full rate.
        expected = case['lr'] if expected == 'ZeroDivisionError' else expected
        assert schedule(float(epoch)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize('lr_schedule', ['cosine', 'multistep'])
def test_without_warmup_starts_at_the_full_rate(lr_schedule):
    assert schedule_of(lr_schedule=lr_schedule, lr=0.3, lr_steps=(5,), lr_factor=0.1)(0) == 0.3


def test_run_that_ends_in_the_warmup():
    assert schedule_of(num_epochs=2, warmup_epochs=4)(1) == 0.25


def test_steps_fall_where_they_are_said():
    schedule = schedule_of(lr_schedule='multistep', lr_steps=(2, 5), lr_factor=0.5)
    assert [schedule(epoch) for epoch in (0, 1.99, 2, 4.99, 5, 9)] == [1, 1, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize('begin', [5, 0])
def test_exponential(begin):
    """Compared with TensorFlow's staircase, computed per step: 0.97^floor((t - begin) / (2.4 * steps per epoch))."""
    steps_per_epoch, peak = 156, 0.32
    schedule = schedule_of(
        lr=peak, lr_schedule='exponential', lr_decay_from='warmup' if begin else 'start', warmup_epochs=5, num_epochs=50
    )
    steps = np.arange(50 * steps_per_epoch, dtype=np.float64)
    warmup = 5 * steps_per_epoch
    # In whole numbers: 2.4 epochs of 156 steps are 374.4 steps.
    falls = (steps.astype(int) - begin * steps_per_epoch) * 10 // (24 * steps_per_epoch)
    expected = np.where(steps < warmup, peak * steps / warmup, peak * 0.97**falls)
    found = [schedule(epoch + step / steps_per_epoch) for epoch in range(50) for step in range(steps_per_epoch)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found[-1] == pytest.approx(peak * 0.97 ** (18 if begin else 20))


def test_cosine_ends_at_the_smallest_rate():
    """SGDR, equation 5."""
    schedule = schedule_of(lr=0.5, min_lr=0.1, warmup_epochs=2, num_epochs=10)
    for epoch in (2, 3.5, 6, 9.9):
        expected = 0.1 + 0.5 * (0.5 - 0.1) * (1 + np.cos(np.pi * (epoch - 2) / 8))
        assert schedule(epoch) == pytest.approx(expected, rel=1e-9)
    # The warm-up starts at 0 nevertheless.
    assert schedule(0) == 0


def test_no_schedule_falls_below_the_smallest_rate():
    assert schedule_of(lr_schedule='exponential', lr_decay_rate=0.1, min_lr=0.05, num_epochs=100)(99) == 0.05
    assert schedule_of(lr_schedule='multistep', lr_steps=(1, 2), lr_factor=0.1, min_lr=0.05)(3) == 0.05


def test_cooldown_follows_the_schedule():
    cooled = schedule_of(num_epochs=13, cooldown_epochs=3, min_lr=0.01)
    plain = schedule_of(num_epochs=10, min_lr=0.01)
    assert [cooled(epoch) for epoch in range(10)] == [plain(epoch) for epoch in range(10)]
    assert [cooled(epoch) for epoch in (10, 11.5, 12.9)] == pytest.approx([0.01] * 3)
    assert schedule_of(lr_schedule='exponential', cooldown_epochs=3, min_lr=0.01)(7) == pytest.approx(0.01)


def test_piecewise_is_linear_and_jumps():
    points = ((0, 1), (7, 2), (13, 0.25), (13, 1), (22, 0.1))
    schedule = schedule_of(lr=0.5, lr_schedule='piecewise', lr_points=points, num_epochs=28)
    expected = {0: 1, 3.5: 1.5, 7: 2, 10: 1.125, 12.999: 0.250292, 13: 1, 17.5: 0.55, 22: 0.1, 27: 0.1}
    for epoch, factor in expected.items():
        assert schedule(epoch) == pytest.approx(0.5 * factor, rel=1e-5)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'lr_schedule': 'piecewise'}, 'piecewise needs its points'),
        ({'lr_points': ((5, 1), (3, 2))}, '--lr-points 5:1,3:2: epochs must be in ascending order'),
        ({'lr_steps': (5, 3)}, '--lr-steps 5,3: epochs must be in ascending order'),
        ({'min_lr': 2}, '--min-lr 2: must be at most --lr 1'),
        ({'cooldown_epochs': 2}, '--cooldown-epochs 2 needs a rate to train at: --min-lr'),
        ({'cooldown_epochs': 10, 'min_lr': 0.1}, '--cooldown-epochs 10: must be less than --num-epochs 10'),
    ],
)
def test_contradicting_options(settings, message):
    with pytest.raises(UserError, match=message):
        schedule_of(**settings)
