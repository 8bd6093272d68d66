"""A minimal training loop for the benchmarks: forward, backward, update, and one wait at the end."""

import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
from imagenet.launcher.worker_env import cpu_environment

PROJECT = Path(__file__).resolve().parents[1]
WARMUP_STEPS = 3


def bare_loop(batch_size, steps, **network):
    """Return images/s of training ResNet-50 v1.5 at 224 px on random images.

    Args:
        network: settings of `models.get_model`.
    """
    import models
    from imagenet.runtime.compat import mx

    net = models.get_model(**network)
    models.initialize(net, [mx.cpu()])
    net.hybridize(static_alloc=True, static_shape=True)
    criterion = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    criterion.hybridize(static_alloc=True, static_shape=True)
    settings = {'learning_rate': 0.01, 'momentum': 0.875, 'wd': 1 / 32768}
    trainer = mx.gluon.Trainer(net.collect_params(), 'sgd', settings, kvstore=None)
    shape = (224, 224, 3) if net.input_layout == 'NHWC' else (3, 224, 224)
    images, labels = mx.nd.random.normal(shape=(batch_size, *shape)), mx.nd.zeros(batch_size)

    def seconds(count):
        start = time.perf_counter()
        for _ in range(count):
            with mx.autograd.record():
                loss = criterion(net(images), labels)
            loss.backward()
            trainer.step(batch_size)
        mx.nd.waitall()
        return time.perf_counter() - start

    seconds(WARMUP_STEPS)
    return batch_size * steps / seconds(steps)


def bound_threads():
    """Return the environment that `runner` gives a process with all cores; the user's variables take precedence."""
    return {**cpu_environment(1), **os.environ}


def output_of(*command):
    """Run a program with `bound_threads` and return its output."""
    return subprocess.check_output([str(part) for part in command], env=bound_threads(), text=True)
