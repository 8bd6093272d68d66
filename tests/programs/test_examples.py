"""examples/: each script builds the command that its name promises, and passes on further options."""

import shlex

import pytest

from helpers.commands import PROJECT, assert_user_error, call, succeed
from imagenet.reporting.published import read_published

SCRIPTS = sorted(path.name for path in (PROJECT / 'examples').glob('*.sh'))
GPU_LAYOUT = {'--conv-layout': 'NHWC', '--fuse-bn-add-relu': '1', '--input-channels': '4'}


def commands(script, *options):
    """Return (command, its train.py options) for every run that a script would start."""
    lines = succeed(PROJECT / 'examples' / script, *options, '--dry-run').splitlines()
    words = [shlex.split(line) for line in lines if 'train.py' in line]
    starts = [next(number for number, word in enumerate(line) if word.endswith('/train.py')) for line in words]
    return [(line, dict(zip(line[start + 1 :: 2], line[start + 2 :: 2]))) for line, start in zip(words, starts)]


def expectation(script):
    """Return the options that all runs of a script must have, according to its name."""
    expected = {'--device': 'cpu' if 'CPU' in script else 'gpu'}
    if 'FP16' in script or script.endswith('0E.sh'):
        expected.update(GPU_LAYOUT, **{'--dtype': 'float16'})
    else:
        expected['--dtype'] = 'float32'
    modes = {'SCORE': 'val', 'INFER': 'val', 'BENCHMARK_CPU': 'train'}
    expected['--mode'] = next((mode for start, mode in modes.items() if script.startswith(start)), 'train_val')
    for epochs in ('50', '90', '250'):
        if script == f'RN50_{epochs}E.sh':
            expected['--num-epochs'] = epochs
    if script == 'RN50_250E.sh':
        expected['--mixup'] = '0.2'
    return expected


@pytest.mark.parametrize('script', SCRIPTS)
def test_script_makes_its_command(script):
    arguments = {'SCORE_CPU.sh': ('model_best.params',)}.get(script, ('model', '90') if 'SCORE' in script else ())
    found = commands(script, *arguments, '--seed', '7')
    assert all(expectation(script).items() <= options.items() for _, options in found)
    assert all(options['--seed'] == '7' for _, options in found)
    for workers in (4, 8):
        if f'_{workers}GPU' in script:
            assert f'-np {workers}' in ' '.join(found[0][0])


def test_recipes_use_the_published_batch_and_learning_rate():
    _, options = commands('RN50_90E.sh')[0]
    assert (options['--batch-size'], options['--lr']) == ('1536', '1.536')


def test_benchmarks_cover_the_published_batch_sizes():
    sizes = [options['--batch-size'] for _, options in commands('INFER_BENCHMARK_FP16.sh')]
    assert list(map(int, sizes)) == sorted({run.batch_size for run in read_published() if run.mode == 'val'})
    assert len(commands('BENCHMARK_FP16.sh')) == 3 * 4


@pytest.mark.parametrize(('file', 'expected'), [('model_0009.params', '_0009'), ('model-0009.params', '-0009')])
def test_scored_checkpoint(tmp_path, file, expected):
    (tmp_path / file).touch()
    _, options = commands('SCORE_FP16.sh', tmp_path / 'model', '9')[0]
    assert options['--load'] == f'{tmp_path / "model"}{expected}.params'


@pytest.mark.parametrize('script', ['SCORE_FP16.sh', 'SCORE_FP32.sh', 'SCORE_CPU.sh'])
def test_score_without_a_checkpoint(script):
    result = call(PROJECT / 'examples' / script)
    assert result.returncode == 2
    assert result.stderr.startswith('usage: ')
    assert_user_error(result)
