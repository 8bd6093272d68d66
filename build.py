"""Networks with their parameters, as training and inference want them."""

import distributed
from checkpoint import load_parameters
from compat import mx, start_mixed_precision
from models import get_model, initialize


def build_model(args, devices):
    """The network on its devices: initialised or loaded, the same on every process, hybridized."""
    if args.amp:
        start_mixed_precision('bfloat16' if args.device == 'cpu' else 'float16')
    net = _with_values(get_model(**vars(args)), args, devices)
    net.cast(args.dtype)
    distributed.broadcast(net.collect_params())
    net.hybridize(static_alloc=True, static_shape=args.mode != 'pred')
    return net


def build_separate(args):
    """The network on the CPU in float32, with an operator for each layer: what graphs for inference are made from."""
    separate = {'fuse_bn_relu': 0, 'fuse_bn_add_relu': 0, 'device': 'cpu'}
    return _with_values(get_model(**{**vars(args), **separate}), args, [mx.cpu()])


def _with_values(net, args, devices):
    initialize(net, devices)
    if args.load is not None:
        load_parameters(net, args.load)
    return net
