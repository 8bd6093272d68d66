"""manifest.py: the checkpoint on disk is complete at any time."""

import os
import random
import signal
import time

import pytest

from imagenet.checkpoints.manifest import TrainingProgress, read_manifest, write_checkpoint
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
