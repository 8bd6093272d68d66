"""metadata.py: what is written about a network's input is read again."""

import json

import pytest

from imagenet.inference.metadata import NetworkDescription, describe_input, described_options
from imagenet.input_pipeline.interpolation import FILTERS
from imagenet.input_pipeline.transforms import EvaluationOptions

GRAPH = {
    'arch': 'efficientnet_b0',
    'num_layers': 50,
    'num_groups': 32,
    'num_classes': 2,
    'padding': 'same',
    'batchnorm_eps': 1e-3,
}


def description(interpolation):
    evaluation = EvaluationOptions((3, 32, 32), 36, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), interpolation)
    network = NetworkDescription(**GRAPH, image_shape=(3, 32, 32), input_layout='NCHW').as_json()
    content = {'network': network, **describe_input('NCHW', evaluation, ['cat', 'dog'])}
    return json.loads(json.dumps(content))


@pytest.mark.parametrize('interpolation', FILTERS)
def test_options_come_back(interpolation):
    assert described_options(description(interpolation)) == {
        **GRAPH,
        'image_shape': (3, 32, 32),
        'data_val_resize': 36,
        'interpolation': interpolation,
        'rgb_mean': (1.0, 2.0, 3.0),
        'rgb_std': (4.0, 5.0, 6.0),
        'classes': ['cat', 'dog'],
    }


def test_network_of_a_version_without_a_choice_of_filters_and_padding():
    content = description('cubic')
    del content['input']['interpolation']
    del content['network']['padding']
    found = described_options(content)
    assert (found['interpolation'], found['padding']) == ('linear', 'symmetric')
