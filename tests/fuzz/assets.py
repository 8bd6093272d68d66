"""The intact files that are mutated, made by the programs of the checkout that is tested."""

import json
import os
import resource
import subprocess
import sys

import cv2
import numpy as np

SIDE = 40
CLASSES, IMAGES_PER_CLASS = 2, 5
# In every command, so that networks and data fit together.
NETWORK = ('--device', 'cpu', '--image-shape', '3,32,32', '--num-layers', '18')
DATA = ('--data-val-resize', '32', '--num-classes', '10')
SYNTHETIC = (*DATA, '--data-backend', 'synthetic', '--num-examples', '32', '--batch-size', '16')
TRAIN = ('train.py', *NETWORK, *SYNTHETIC, '--mode', 'train', '--num-epochs', '1', '--ema-decay', '0.9')
BENCHMARK = ('benchmark.py', '-b', '1,2', '--executable', 'false')
PACKED_BYTES = 4096


def make_assets(checkout, folder):
    """Write the files to an empty folder.

    They are an image tree, the data set that is packed from it, the state of an interrupted packing, the workspace of a
    training run, an int8 network, a safetensors file, a network of MXNet's model zoo, and an interrupted sweep.
    """

    def run(*command, **settings):
        environment = {**os.environ, 'OMP_NUM_THREADS': '2', 'OMP_PROC_BIND': 'false'}
        command = [sys.executable, checkout / command[0], *map(str, command[1:])]
        return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, **settings)

    def succeed(*command):
        result = run(*command)
        assert result.returncode == 0, f'{command}\n{result.stdout}\n{result.stderr}'

    _draw_tree(folder / 'tree')
    succeed('scripts/prepare_dataset.py', 'tree', 'data')
    limit = (PACKED_BYTES, PACKED_BYTES)
    run(
        'scripts/prepare_dataset.py', 'tree', 'out', preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    )
    assert (folder / '.out.partial' / 'state.json').exists(), 'packing was not interrupted'
    succeed(*TRAIN, '--workspace', 'net')
    load = ('--load', 'net/model_0001.params', '-o', 'net')
    succeed('train.py', *NETWORK, *SYNTHETIC, '--mode', 'calibrate', '--calib-images', '16', '--max-drop', '1', *load)
    written = ('--format', 'safetensors', '-o', 'net', '--load', 'net/model_0001.params')
    succeed('train.py', *NETWORK, *DATA, '--mode', 'export', *written)
    _write_model_zoo(folder / 'zoo')
    run(*BENCHMARK, '-o', 'sweep.json')
    sweep = json.loads((folder / 'sweep.json').read_text())
    sweep.update(is_complete=False, metrics={'1': {'1': dict.fromkeys(sweep['metric_keys'], 1.5)}})
    (folder / 'sweep.json').write_text(json.dumps(sweep))


def _write_model_zoo(prefix):
    from imagenet.runtime.compat import mx

    net = mx.gluon.model_zoo.vision.resnet18_v1(classes=10)
    net.initialize()
    net.hybridize()
    net(mx.nd.zeros((1, 3, 32, 32)))
    net.export(str(prefix))


def _draw_tree(folder):
    random = np.random.RandomState(0)
    for split in ('train', 'val'):
        for label in range(CLASSES):
            (folder / split / f'class{label}').mkdir(parents=True)
            for number in range(IMAGES_PER_CLASS):
                image = cv2.resize(random.randint(0, 256, (4, 4, 3), np.uint8), (SIDE + number, SIDE))
                suffix = ('jpg', 'png')[number % 2]
                cv2.imwrite(str(folder / split / f'class{label}' / f'{number}.{suffix}'), image)
