"""onnx_quantization.py: int8 ONNX files, which both engines run."""

import pytest

from helpers.networks import make, random_arrays
from imagenet.checkpoints.parameters import named_parameters, set_canonical
from imagenet.inference.engines import ENGINES
from imagenet.inference.export import onnx_model
from imagenet.inference.fused_graph import relative_difference
from imagenet.inference.onnx_quantization import OnnxQuantizer
from imagenet.runtime.compat import mx

SIZE = 64


@pytest.mark.parametrize('mode', ['minmax', 'entropy'])
@pytest.mark.parametrize(
    ('arch', 'num_layers'),
    [('resnetv15', 18), ('resnetv1d', 18), ('resnextv15', 50), ('xception', 50), ('efficientnet_lite0', 50)],
)
def test_every_layer_in_float32_is_the_network(arch, num_layers, mode, capsys):
    net = make(arch=arch, num_layers=num_layers, image_shape=(3, SIZE, SIZE))
    set_canonical(net, random_arrays(net))
    images = mx.nd.random.normal(shape=(4, 3, SIZE, SIZE))
    expected = net(images).asnumpy()
    canonical = {param.name: name for name, param in named_parameters(net).items()}
    quantizer = OnnxQuantizer(onnx_model(net, (3, SIZE, SIZE), '--mode'), canonical, mode, [images[:3], images[3:]])
    assert {'features.0.weight', 'output.weight'} < set(quantizer.layers) <= set(canonical.values())
    assert capsys.readouterr().out == ''

    def difference(engine, in_float32):
        logits = ENGINES[engine](quantizer.quantize(in_float32), 1).start(images.asnumpy())()
        return relative_difference(logits, expected)

    for engine in ENGINES:
        assert difference(engine, quantizer.layers) < 1e-4
        assert 1e-3 < difference(engine, []) < 0.5
    assert relative_difference(quantizer.runner(quantizer.layers)(images), expected) < 1e-4
