"""manifest.py: the checkpoint on disk is complete at any time."""

import json
import os
import random
import signal
import time

import pytest

from imagenet.checkpoints.manifest import (
    OPTIONS_BEFORE,
    TrainingProgress,
    read_manifest,
    remove_unfinished_checkpoint,
    write_checkpoint,
)
from imagenet.common.errors import UserError
from imagenet.runtime.compat import mx


@pytest.mark.program
@pytest.mark.only_on_cpu('tests only files')
def test_kill_at_any_moment_of_a_save(tmp_path):
    """After the kill, the files on disk load as either the previous checkpoint or the new one."""
    path = tmp_path / 'model_resume.json'
    parts = {name: {'weight': mx.nd.arange(100_000)} for name in ('parameters', 'optimizer', 'average')}

    def save(epoch):
        for arrays in parts.values():
            arrays['weight'][:] = epoch
        write_checkpoint(path, TrainingProgress(seed=1, options={'batch_size': 1}, epoch=epoch), parts)

    def save_in_child(epoch):
        child = os.fork()
        if child == 0:
            save(epoch)
            os._exit(0)
        return child

    save(0)
    started = time.perf_counter()
    os.waitpid(save_in_child(1), 0)
    longest = time.perf_counter() - started
    epoch, interrupted, moments = 1, 0, random.Random(0)
    for _ in range(100):
        child = save_in_child(epoch + 1)
        time.sleep(moments.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        progress, files = read_manifest(path)
        assert progress.epoch in (epoch, epoch + 1)
        assert len(files) == 3
        for file in files.values():
            assert (mx.nd.load(str(file))['weight'].asnumpy() == progress.epoch).all()
        interrupted += os.WIFSIGNALED(status)
        # Adapts to the machine's current speed, so that about half of the saves finish before the kill.
        longest *= 1.05 if os.WIFSIGNALED(status) else 0.95
        epoch = progress.epoch
    assert interrupted > 25
    assert epoch > 10


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / 'model_resume.json'
    progress = TrainingProgress(seed=1, options={'batch_size': 8}, iteration=3, sums=[1.5, 2, 3, 24], seconds=0.5)
    write_checkpoint(path, progress, {'parameters': {'weight': mx.nd.ones(3)}})
    return path


def test_progress_is_read_back(manifest):
    progress, files = read_manifest(manifest)
    assert (progress.seed, progress.iteration, progress.sums) == (1, 3, [1.5, 2, 3, 24])
    assert list(files) == ['parameters']
    # Those of the versions that had no others.
    assert progress.options == {'batch_size': 8, **OPTIONS_BEFORE}
    before = {'interpolation': 'linear', 'freeze': 'none', 'lr_mult_features': 1, 'cutmix': 0}
    assert before.items() <= OPTIONS_BEFORE.items()


@pytest.mark.parametrize(
    ('change', 'problem'),
    [
        ({'format': 2}, 'a checkpoint of format 2; this package reads 1'),
        ({'seed': 'one'}, "seed: 'one' is not of type 'integer'"),
        ({'epoch': -1}, 'epoch: -1 is less than the minimum of 0'),
        ({'epoch': 1.5}, "epoch: 1.5 is not of type 'integer'"),
        ({'iteration': 10**15}, 'iteration: 1000000000000000 is greater than the maximum'),
        ({'sums': [1, 2]}, 'sums'),
        ({'sums': []}, 'sums'),
        ({'seconds': 0}, 'seconds: 0 is less than or equal to the minimum of 0'),
        ({'options': {}}, "options: 'batch_size' is a required property"),
        ({'options': {'batch_size': 0}}, 'options.batch_size: 0 is less than the minimum of 1'),
        ({'options': {'batch_size': 8, 'interpolation': 'x'}}, "options.interpolation: 'x' is not one of"),
        ({'optimizer': {'lr': 1}}, "'lr' was unexpected"),
        ({'communication': [1]}, 'communication: [1] is too short'),
        ({'metrics': {'train.loss': 1}}, 'metrics.train.loss: 1 is not of type'),
        ({'parts': {}}, "parts: 'parameters' is a required property"),
        ({'parts': {'parameters': {'file': '../x.params', 'sha256': '0' * 64}}}, 'parts.parameters.file'),
        ({'parts': {'parameters': {'file': 'x.params', 'sha256': 1}}}, 'parts.parameters.sha256'),
        ({'parts': {'parameters': {'file': 'x.params', 'sha256': '0' * 64}}}, 'x.params: this part of the checkpoint'),
        ({'more': 1}, "'more' was unexpected"),
    ],
    ids=range(19),
)
def test_hostile_manifest(manifest, change, problem):
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **change}))
    with pytest.raises(UserError) as error:
        read_manifest(manifest)
    assert problem in str(error.value)
    assert str(error.value).endswith('; restore it, or start over with --no-resume')


def test_prefix_is_no_pattern(tmp_path):
    """Files of other runs stay."""
    other = tmp_path / '.model_resume.json.x'
    other.touch()
    for prefix in ('*', '**', '[a-z]*'):
        remove_unfinished_checkpoint(tmp_path, prefix)
    assert other.exists()
