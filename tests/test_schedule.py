"""schedule.py beside the learning rates that users of the recipe know."""

import json
from pathlib import Path

import pytest

from schedule import learning_rate

REFERENCE = json.loads((Path(__file__).parent / 'data' / 'lr_schedules.json').read_text())
COSINES = [case for case in REFERENCE if case['lr_schedule'] == 'cosine' and not case['lr_steps']]


@pytest.mark.parametrize('case', COSINES, ids=lambda case: f'lr{case["lr"]:g}-warmup{case["warmup_epochs"]}')
def test_cosine(case):
    for epoch, expected in case['lr_at_epoch'].items():
        found = learning_rate(float(epoch), case['lr'], case['num_epochs'], case['warmup_epochs'])
        assert found == pytest.approx(expected, abs=1e-9)


def test_without_warmup_starts_at_the_full_rate():
    assert learning_rate(0, 0.3, 10, 0) == 0.3


def test_run_that_ends_in_the_warmup():
    assert learning_rate(1, 1.0, 2, 4) == 0.25
