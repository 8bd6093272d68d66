"""benchmarks/scaling.py, compared with the measurements that NVIDIA published."""

import json
import sys

import pytest

from helpers.commands import PROJECT, assert_user_error, call_here, succeed, succeed_here

sys.path.append(str(PROJECT / 'benchmarks'))

from scaling import MACHINES, PARAMETERS, Machine, predict, published_training, ring_seconds

COMMAND = (sys.executable, 'benchmarks/scaling.py')


@pytest.mark.parametrize('name', MACHINES)
def test_model_is_within_two_points_of_published_efficiencies(name):
    batch_size, published = published_training(name)
    rows = predict(published, published[1], batch_size, 2 * PARAMETERS, MACHINES[name])
    for count, _, efficiency, _ in rows:
        assert efficiency == pytest.approx(published[count] / published[1] / count, abs=0.02)


def test_published_batch_sizes():
    assert {name: published_training(name)[0] for name in MACHINES} == {'DGX-2 V100 32GB': 256, 'DGX A100 80GB': 512}


def test_table_of_published_runs_needs_the_standard_library_alone():
    lines = succeed(sys.executable, '-I', '-S', *COMMAND[1:], '--published', '-n', '1,8').splitlines()
    assert lines[0] == 'DGX-2 V100 32GB, mixed precision, batch size 256 per GPU'
    assert lines[3].split()[5] == '11368'


def test_ring():
    assert ring_seconds(1, 1e9, 1e9, 1, 16) == 0
    assert ring_seconds(4, 1e9, 1e9, 0, 16) == pytest.approx(1.5)
    assert ring_seconds(4, 0, 1e9, 0.01, 2) == pytest.approx(0.12)


def test_overlap_hides_communication():
    for overlap, expected in ((0, 4 / 7), (1, 1)):
        machine = Machine(per_host=8, bandwidth=1e9, latency=0, overlap=overlap)
        ((_, _, efficiency, _),) = predict([4], 100, 200, 1e9, machine)
        assert efficiency == pytest.approx(expected)


def test_table_from_a_report(tmp_path):
    report = tmp_path / 'report.json'
    report.write_text(json.dumps({'ngpus': 1, 'metrics': {'train.total_ips': [100.0, 1500.0]}}))
    lines = succeed_here(*COMMAND, '--report', report, '-n', '1,8,1024').splitlines()
    assert '1500.0 images/s of one GPU' in lines[0]
    assert [int(line.split()[0]) for line in lines[2:]] == [1, 8, 1024]


def test_bad_reports(tmp_path):
    report = tmp_path / 'report.json'
    assert_user_error(call_here(*COMMAND, '--report', report), report, 'cannot read')
    report.write_text(json.dumps({'ngpus': 8, 'metrics': {'train.total_ips': [100.0]}}))
    assert_user_error(call_here(*COMMAND, '--report', report), 'the run of 8 GPUs')
