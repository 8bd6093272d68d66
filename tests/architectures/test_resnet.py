"""resnet.py: ResNet-C, -D and -S compute what GluonCV's networks of these names do."""

import json

import numpy as np
import pytest

import models
from helpers.commands import PROJECT
from helpers.networks import make, random_arrays, random_images
from imagenet.checkpoints import parameters

# The logits that GluonCV's networks compute from the same parameters and images.
GOLDEN = json.loads((PROJECT / 'tests/data/resnet_golden.json').read_text())['logits']


@pytest.mark.parametrize('key', GOLDEN)
def test_golden_logits(key):
    arch, size = key.split()
    net = make(arch=arch, num_layers=50)
    parameters.set_canonical(net, random_arrays(net))
    logits, golden = net(random_images(size=int(size))).asnumpy(), GOLDEN[key]
    assert np.linalg.norm(logits) == pytest.approx(golden['norm'], rel=1e-4)
    np.testing.assert_allclose(logits[0, : len(golden['first'])], golden['first'], atol=1e-4 * golden['norm'])


@pytest.mark.parametrize(
    ('arch', 'projections'),
    [
        ('resnetv15', ['4.0.downsample.0', '5.0.downsample.0', '6.0.downsample.0']),
        ('resnetv1c', ['8.0.downsample.0', '9.0.downsample.0', '10.0.downsample.0']),
        ('resnetv1d', ['8.0.downsample.1', '9.0.downsample.1', '10.0.downsample.1']),
        # The stem has more channels than the first stage.
        ('resnetv1s', ['7.0.downsample.0', '8.0.downsample.0', '9.0.downsample.0', '10.0.downsample.0']),
    ],
)
def test_names_of_projections(arch, projections):
    net = models.get_model(arch, num_layers=18)
    names = [name for name in parameters.named_parameters(net) if 'downsample' in name and name.endswith('weight')]
    assert names == [f'features.{place}.weight' for place in projections]
