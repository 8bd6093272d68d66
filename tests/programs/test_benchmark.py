"""benchmark.py and sweep.py: real sweeps with the smallest network, and runs that fail in every way."""

import json
import math
import signal
import subprocess
import sys
import time

import cv2
import pytest

from helpers.commands import assert_user_error, call, succeed
from helpers.patience import wait_until
from helpers.processes import assert_nothing_is_left

pytestmark = pytest.mark.usefixtures('device')


SMALLEST = ['--data-backend', 'synthetic', '--num-examples', '320']


SMALLEST += ['--image-shape', '3,32,32', '--num-layers', '10']


# Replaces runner: records the -n and -b it was called with, then measures, hangs, crashes or dies as told.
STAND_IN = """#!{python}
import json, os, sys, time
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
pair = options['-n'], options['-b']
with open({calls!r}, 'a') as calls:
    calls.write(' '.join(pair) + '\\n')
behaviour = {behaviours!r}.get('x'.join(pair), 'measure')
if behaviour == 'hang':
    time.sleep(1000)
elif behaviour == 'crash':
    print('a batch of', pair[1], 'does not fit in memory', file=sys.stderr)
    sys.exit(2)
elif behaviour == 'die':
    os.kill(os.getpid(), 9)
speeds = [1.0, 100.0 * int(pair[1]), 300.0 * int(pair[1])]
latencies = [9.0, 0.01, 0.03]
metrics = {{'train.total_ips': speeds, 'train.latency_avg': latencies}}
report = {{'model': 'net', 'ngpus': 1, 'total_duration': 1, 'cmd': [], 'metrics': metrics}}
json.dump(report, open(os.path.join(options['--workspace'], 'report.json'), 'w'))
"""


@pytest.fixture
def stand_in(tmp_path):
    """A function that writes a stand-in for runner and returns its path; **{'1x2': 'hang'} makes -n 1 -b 2 hang."""

    def make(**behaviours):
        path = tmp_path / 'runner'
        text = STAND_IN.format(python=sys.executable, calls=str(tmp_path / 'calls'), behaviours=behaviours)
        path.write_text(text)
        path.chmod(0o755)
        return path

    return make


def benchmark(*options):
    return [sys.executable, 'benchmark.py', *map(str, options)]


def results(path):
    return json.loads(path.read_text())


@pytest.mark.gpus(2)
def test_sweep_measures_what_the_runs_report(tmp_path):
    options = ('-n', '1,2', '-b', '4,8', '-i', '4', '-e', '2', '-w', '1', *SMALLEST)
    output = succeed(*benchmark(*options, '-o', tmp_path / 'out.json', '--plot', tmp_path / 'out.png'))
    out = results(tmp_path / 'out.json')
    assert (out['model'], out['ngpus'], out['bs']) == ('resnetv15-10', [1, 2], [4, 8])
    assert out['metric_keys'][:3] == ['train.total_ips', 'train.latency_avg', 'val.total_ips']
    for ngpus in (1, 2):
        for batch_size in (4, 8):
            values = out['metrics'][str(ngpus)][str(batch_size)]
            assert list(values) == out['metric_keys']
            assert values['val.latency_50'] <= values['val.latency_90'] <= values['val.latency_100']
            # Both cover the same steps.
            images_per_second = ngpus * batch_size / values['train.latency_avg']
            assert values['train.total_ips'] == pytest.approx(images_per_second, rel=0.05)
    assert out['environment']['options']['mode'] == 'train_val'
    assert {'machine', 'mxnet', 'horovod'} <= set(out['environment'])
    assert output.count('devices 1, batch size 4, train images/s') == 1
    assert cv2.imread(str(tmp_path / 'out.png')).std() > 10


def test_recipe_passes_through(tmp_path):
    (tmp_path / 'recipe.args').write_text('--mixup 0.2 --num-epochs 7 --workspace elsewhere\n')
    command = succeed(*benchmark('-b', '8', f'@{tmp_path}/recipe.args', '-e', '3', '-w', '1', '--dry-run'))
    assert '--mixup 0.2' in command
    assert '--num-epochs 3' in command
    assert '--num-epochs 7' not in command
    assert command.index('--workspace elsewhere') < command.index('--workspace WORKSPACE')


@pytest.mark.parametrize(('mode', 'is_left_out'), [('train', True), ('train_val', True), ('val', False)])
def test_training_is_measured_without_metrics(mode, is_left_out):
    assert ('--no-metrics' in succeed(*benchmark('-b', '8', '--mode', mode, '--dry-run'))) == is_left_out


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--workspace', 'here'), '--workspace: benchmark.py sets this option of runner itself; leave it out'),
        (('--workspace=here',), '--workspace: benchmark.py'),
        (('--batch-size', '4'), '--batch-size: benchmark.py sets this option of runner itself; use -b'),
        (('--num-epochs', '4'), '--num-epochs: benchmark.py sets this option of runner itself; use -e'),
        (('-e', '2', '-w', '2'), '-w 2: must be less than -e 2'),
    ],
)
def test_options_that_a_sweep_sets(options, message):
    assert_user_error(call(*benchmark('-b', '8', *options)), message)


def test_inference_needs_no_checkpoint(tmp_path):
    succeed(*benchmark('-b', '4', '-i', '3', '--only-inference', *SMALLEST, '-o', tmp_path / 'out.json'))
    out = results(tmp_path / 'out.json')
    assert out['metric_keys'] == [
        'val.total_ips',
        *(f'val.latency_{name}' for name in ('avg', '50', '90', '95', '99', '100')),
    ]
    assert out['metrics']['1']['4']['val.total_ips'] > 0


@pytest.mark.only_on_cpu('engines are for CPUs')
def test_engines_are_compared(tmp_path):
    engines = ['mxnet', 'onnxruntime', 'openvino']
    options = ('-b', '4,8', '-i', '3', '--mode', 'val', '--engine', ','.join(engines), *SMALLEST)
    output = succeed(*benchmark(*options, '-o', tmp_path / 'out.json', '--plot', tmp_path / 'out.png'))
    out = results(tmp_path / 'out.json')
    assert out['engines'] == engines
    for engine in engines:
        assert all(out['metrics'][engine]['1'][size]['val.total_ips'] > 0 for size in ('4', '8'))
        assert f'engine {engine}, devices 1, batch size 8, val images/s' in output
    assert cv2.imread(str(tmp_path / 'out.png')).std() > 10


def test_warmup_is_left_out_and_speeds_are_averaged_by_time(tmp_path, stand_in):
    options = ('-b', '1', '-e', '3', '-w', '1', '--mode', 'train', '--executable', stand_in())
    succeed(*benchmark(*options, '-o', tmp_path / 'out.json'))
    values = results(tmp_path / 'out.json')['metrics']['1']['1']
    assert values['train.total_ips'] == pytest.approx(2 / (1 / 100 + 1 / 300))
    assert values['train.latency_avg'] == pytest.approx(0.02)


def test_runs_that_fail_are_told_and_the_sweep_goes_on(tmp_path, stand_in):
    executable = stand_in(**{'1x2': 'hang', '1x4': 'crash', '1x8': 'die'})
    started = time.monotonic()
    succeed(executable, '-n', '1', '-b', '16', '--workspace', tmp_path)
    limit = math.ceil(10 * (time.monotonic() - started))
    (tmp_path / 'calls').unlink()
    options = ('-b', '1,2,4,8,16', '-e', '3', '--mode', 'train', '--executable', executable, '--timeout', limit)
    result = call(*benchmark(*options, '-o', tmp_path / 'out.json', '--markdown', tmp_path / 'out.md'))
    assert result.returncode == 1
    out = results(tmp_path / 'out.json')
    assert out['failures'] == {
        '1': {
            '2': f'took more than {limit} s',
            '4': 'ended with exit code 2: a batch of 4 does not fit in memory',
            '8': 'was ended by SIGKILL',
        }
    }
    assert out['metrics']['1']['4'] == {'train.total_ips': None, 'train.latency_avg': None}
    assert out['metrics']['1']['16']['train.total_ips'] > 0
    for text in (result.stdout, (tmp_path / 'out.md').read_text()):
        assert 'nan [2]' in text
        assert '[2] 1 x 4: ended with exit code 2: a batch of 4 does not fit in memory' in text


def test_interrupted_sweep_goes_on(start, tmp_path, stand_in):
    out, calls = tmp_path / 'out.json', tmp_path / 'calls'
    options = ('-b', '1,2,4', '-e', '3', '--mode', 'train', '--executable')
    command = benchmark(*options, stand_in(**{'1x2': 'hang'}), '-o', out)
    process = start(*command, stderr=subprocess.PIPE)
    wait_until(lambda: calls.exists() and '1 2' in calls.read_text(), process)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert process.returncode == 130
    assert errors == ''
    assert f'interrupted; the same command resumes from {out}' in output
    assert not results(out)['is_complete']
    assert_nothing_is_left(tmp_path / 'runner')

    other = call(*benchmark('-b', '1,2', *options[2:], stand_in(), '-o', out))
    assert_user_error(other, out, 'an interrupted sweep with other options')
    output = succeed(*benchmark(*options, stand_in(), '-o', out))
    assert '1 of 3 runs are done' in output
    assert calls.read_text().splitlines() == ['1 1', '1 2', '1 2', '1 4']
    assert results(out)['is_complete']
    assert results(out)['failures'] == {}
