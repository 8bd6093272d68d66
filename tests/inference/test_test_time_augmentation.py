"""`--tta flip` averages logits over an image and its mirror image, in each layout and with any engine."""

import numpy as np
import pytest

from imagenet.inference.test_time_augmentation import FlippingEngine, FlippingNetwork
from imagenet.runtime.compat import mx

IMAGES = np.random.RandomState(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
# Differs for an image and its mirror image.
WEIGHTS = np.arange(60, dtype=np.float32).reshape(3, 4, 5)


def logits(images):
    return np.stack([(images * WEIGHTS).sum((1, 2, 3)), (images * WEIGHTS**2).sum((1, 2, 3))], axis=1)


EXPECTED = (logits(IMAGES) + logits(IMAGES[..., ::-1])) / 2


@pytest.mark.parametrize(('layout', 'axes'), [('NCHW', (0, 1, 2, 3)), ('NHWC', (0, 2, 3, 1))])
def test_network(layout, axes):
    def net(images):
        return mx.nd.array(logits(images.asnumpy().transpose(np.argsort(axes))))

    found = FlippingNetwork(net, layout)(mx.nd.array(IMAGES.transpose(axes)))
    np.testing.assert_allclose(found.asnumpy(), EXPECTED, rtol=1e-5)


def test_engine_starts_both_before_it_waits():
    events = []

    class Engine:
        def start(self, images):
            # ONNX Runtime and OpenVINO read the memory of the array.
            assert images.flags.c_contiguous
            events.append('start')
            return lambda: events.append('wait') or logits(images)

    wait = FlippingEngine(Engine()).start(IMAGES)
    assert events == ['start', 'start']
    np.testing.assert_allclose(wait(), EXPECTED, rtol=1e-5)
