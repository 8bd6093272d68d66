#!/usr/bin/env python3
"""Builds networks: `get_model()`, `build_model()` and the model options.

    ./models.py --summary --arch resnextv15 --num-layers 50

prints a network's layers.
"""

if __name__ == '__main__':
    from imagenet.common.program import start_program

    start_program('mxnet', 'cv2', 'tabulate', 'psutil')

import inspect
from functools import lru_cache, partial

from imagenet.architectures.padding import PADDINGS
from imagenet.architectures.registry import (
    ARCHITECTURES,
    RESNET_DEPTHS,
    default_image_shape,
    default_options,
    make_features,
)
from imagenet.architectures.summary import format_layer_table, layer_table
from imagenet.checkpoints.description import INPUT_OPTIONS
from imagenet.checkpoints.loading import load_parameters
from imagenet.checkpoints.parameters import IMAGE_CHANNELS, OUTPUT_WEIGHT, canonical_shapes, set_canonical
from imagenet.common.errors import UserError, one_line_errors
from imagenet.common.files import file_sha256
from imagenet.common.modes import Mode
from imagenet.common.options import (
    IMAGE_SHAPE_RULE,
    ArgumentParser,
    integer,
    is_image_shape,
    number,
    parse_image_shape,
    pick,
    with_changes,
    with_defaults,
)
from imagenet.common.program import run_program
from imagenet.inference.engines import (
    AUTO,
    BFLOAT16,
    MXNET,
    Exported,
    export_for_engines,
    open_engine,
    open_fastest,
)
from imagenet.inference.fused_graph import PlainNetwork, example_images, fuse
from imagenet.inference.int8_network import load_int8, read_int8_model
from imagenet.inference.metadata import NetworkDescription
from imagenet.inference.mxnet_engine import MXNetEngine
from imagenet.input_pipeline.transforms import InputForm
from imagenet.runtime import distributed
from imagenet.runtime.compat import mx, start_mixed_precision
from imagenet.runtime.layouts import LAYOUTS
from imagenet.runtime.system_info import versions

MOST_CLASSES = 1_000_000
DEFAULT_ARCH = 'resnetv15'


def add_model_args(parser):
    group = parser.add_argument_group('Model')
    default = 'default: that of the checkpoint of --load, else'
    group.add_argument(
        '--arch',
        choices=tuple(ARCHITECTURES),
        help='the network; resnetv1c, resnetv1d and resnetv1s are resnetv15 with a deeper stem, and resnetv1d also '
        f'averages in shortcuts; the name of an EfficientNet includes its variant ({default} {DEFAULT_ARCH})',
    )
    depths = ', '.join(map(str, RESNET_DEPTHS))
    group.add_argument(
        '--num-layers',
        type=integer(at_least=1),
        help=f'depth of a ResNet, with any stem ({depths}), or ResNeXt (50 or more) ({default} 50)',
    )
    group.add_argument(
        '--num-groups', type=integer(1, 1024), help=f'groups of a ResNeXt, each 4 channels wide ({default} 32)'
    )
    group.add_argument(
        '--num-classes',
        type=integer(1, MOST_CLASSES),
        help=f'number of classes ({default} that of the data set, else 1000)',
    )
    group.add_argument(
        '--padding',
        choices=tuple(PADDINGS),
        help='how the convolutions of an EfficientNet pad; same: as TensorFlow does, which weights that were trained '
        f'there need ({default} symmetric)',
    )
    group.add_argument(
        '--batchnorm-eps',
        type=number(above=0, below=1),
        help=f'batch norm epsilon ({default} 1e-5, or 1e-3 for an EfficientNet)',
    )
    group.add_argument(
        '--batchnorm-mom',
        type=number(at_least=0, below=1),
        help='batch norm running average momentum (default: 0.9, or 0.99 for an EfficientNet)',
    )
    group.add_argument(
        '--drop-connect',
        type=number(at_least=0, below=1),
        help='stochastic depth: in training, leave out the branch of a block, for some images; this rate would be that '
        'behind the last block, and the rates of the blocks grow linearly from 0 (default: 0, or 0.2 for an '
        'EfficientNet)',
    )
    group.add_argument(
        '--dropout',
        type=number(at_least=0, below=1),
        help='dropout before the dense layer (default: 0, or 0.2 to 0.5 for an EfficientNet, depending on its size)',
    )
    group.add_argument(
        '--fuse-bn-relu',
        type=int,
        choices=(0, 1),
        default=0,
        help='compute batch norm and ReLU in one operator if MXNet has one; `runner` sets it (default: %(default)s)',
    )
    group.add_argument(
        '--fuse-bn-add-relu',
        type=int,
        choices=(0, 1),
        default=0,
        help='the same, including the addition of the residual (default: %(default)s)',
    )
    for name, what in (
        ('input', 'the input images'),
        ('conv', 'convolutions (on a CPU, every layer computes in NCHW regardless)'),
        ('batchnorm', 'batch normalization'),
        ('pooling', 'pooling'),
    ):
        group.add_argument(
            f'--{name}-layout', choices=LAYOUTS, default='NCHW', help=f'layout of {what} (default: %(default)s)'
        )
    return group


def check_arch(arch):
    """Raise `UserError` if there is no such architecture."""
    if arch not in ARCHITECTURES:
        raise UserError(f'--arch {arch}: must be one of {", ".join(ARCHITECTURES)}')


def check_model(arch, num_layers, padding, image_shape):
    """Raise `UserError` if a network of a known architecture cannot be built."""
    architecture = ARCHITECTURES[arch]
    if architecture.depths and num_layers not in architecture.depths:
        allowed = ', '.join(map(str, architecture.depths))
        raise UserError(f'--num-layers {num_layers}: --arch {arch} has {allowed}')
    if padding != 'symmetric' and 'padding' not in architecture.own_options:
        raise UserError(f'--padding {padding}: --arch {arch} has only symmetric')
    shape = ','.join(map(str, image_shape))
    if not is_image_shape(image_shape):
        raise UserError(f'--image-shape {shape}: {IMAGE_SHAPE_RULE}')
    check_image_size(arch, f'--image-shape {shape}', image_shape[1:])


def check_image_size(arch, option, size):
    """Raise `UserError`, which names an option, if a known architecture cannot take images of (height, width)."""
    least = ARCHITECTURES[arch].least_size
    if min(size) < least:
        raise UserError(f'{option}: --arch {arch} needs a height and width of at least {least}')


def get_model(
    arch=DEFAULT_ARCH,
    num_layers=None,
    num_groups=None,
    num_classes=1000,
    image_shape=None,
    input_layout='NCHW',
    conv_layout='NCHW',
    batchnorm_layout='NCHW',
    pooling_layout='NCHW',
    padding=None,
    batchnorm_eps=None,
    batchnorm_mom=None,
    drop_connect=None,
    dropout=None,
    fuse_bn_relu=0,
    fuse_bn_add_relu=0,
    freeze='none',
    device='cpu',
):
    """Build a network; its parameters are not initialized yet.

    Args:
        image_shape: `(C, H, W)`, regardless of the layout; C is 3, or 4 with a fourth channel that is always 0.
        device: 'cpu' or 'gpu'; determines which operators are available.
        The others are the options of the same names; None is the architecture's default.

    Returns:
        A `HybridBlock` that maps images `(N, C, H, W)` or `(N, H, W, C)`, depending on `input_layout`, to float32
        logits `(N, num_classes)`.

    Raises:
        UserError: the network cannot be built.
    """
    check_arch(arch)
    image_shape = image_shape or default_image_shape(arch)
    given = {
        'num_layers': num_layers,
        'num_groups': num_groups,
        'padding': padding,
        'batchnorm_eps': batchnorm_eps,
        'batchnorm_mom': batchnorm_mom,
        'drop_connect': drop_connect,
        'dropout': dropout,
    }
    options = {**default_options(arch), **{name: value for name, value in given.items() if value is not None}}
    check_model(arch, options['num_layers'], options['padding'], image_shape)
    # Imported here because these modules define MXNet blocks; parsing options does not need MXNet.
    from imagenet.architectures import initialization
    from imagenet.architectures.classifier import Classifier
    from imagenet.architectures.layers import LayerKit

    layers = LayerKit(
        device,
        conv_layout,
        batchnorm_layout,
        pooling_layout,
        options['batchnorm_eps'],
        options['batchnorm_mom'],
        options['drop_connect'],
        fuse_bn_relu,
        fuse_bn_add_relu,
        freeze == 'batchnorm',
    )
    initializer = getattr(initialization, ARCHITECTURES[arch].initializer)
    # The names in the graph are counted from 0, whatever this process has built before.
    with mx.name.NameManager():
        features, channels = make_features(arch, layers, image_shape, **options)
        return Classifier(
            layers, features, channels, num_classes, image_shape, input_layout, options['dropout'], initializer
        )


def model_options(args):
    """Return the keyword arguments of `get_model` from parsed options, without those that were left out."""
    names = inspect.signature(get_model).parameters
    return {name: value for name, value in vars(args).items() if name in names and value is not None}


def describe_model(args):
    """Return the options that determine the function of a network and its input; see checkpoints/description.py."""
    own_options = ARCHITECTURES[args.arch].own_options
    names = ('arch', *own_options, 'num_classes', 'batchnorm_eps', *INPUT_OPTIONS)
    return {**{name: getattr(args, name) for name in names}, 'image_shape': (IMAGE_CHANNELS, *args.image_shape[1:])}


def model_name(arch, num_layers):
    """Return the name of a network in reports, such as 'resnetv15-50' or 'xception'."""
    return f'{arch}-{num_layers}' if ARCHITECTURES[arch].depths else arch


def allocate(net, devices):
    """Give the parameters memory on these devices, for values that are loaded."""
    # Batch norm's parameters define their own initial values.
    net.initialize(mx.init.Zero(), ctx=devices, force_reinit=True)


def initialize(net, devices):
    """Initialize the parameters as in the architecture's recipe.

    Weights are drawn in canonical form, so the same seed gives the same network in every layout.
    """
    allocate(net, devices)
    _draw(net, [name for name in canonical_shapes(net) if name.endswith('weight')])


def _draw(net, names):
    shapes = canonical_shapes(net)
    set_canonical(net, {name: net.initializer(name, shapes[name]) for name in names})


def build_model(args, devices):
    """Return the network on its devices: initialized or loaded, identical on all processes, hybridized.

    With `--finetune`, its output layer is initialized, and the rest is loaded.
    """
    if args.amp:
        start_mixed_precision('bfloat16' if args.device == 'cpu' else 'float16')
    net = _with_values(get_model(**model_options(args)), args, devices)
    net.cast(args.dtype)
    distributed.broadcast(net.collect_params())
    hybridize(net, args)
    return net


def resize_network(net, args, size):
    """Prepare a network of `build_model` for images of another size, (height, width).

    Its graph for the size before is freed.
    """
    if size == net.image_size:
        return
    net.take_paddings(get_model(**{**model_options(args), 'image_shape': (args.image_shape[0], *size)}))
    hybridize(net, args)


def hybridize(net, args):
    net.hybridize(static_alloc=True, static_shape=args.mode is not Mode.PRED)


def build_unfused(args):
    """Return the float32 network on the CPU with separate operators, from which graphs for inference are made."""
    unfused = {'fuse_bn_relu': 0, 'fuse_bn_add_relu': 0, 'drop_connect': 0, 'dropout': 0}
    unfused.update(freeze='none', device='cpu')
    return _with_values(get_model(**{**model_options(args), **unfused}), args, [mx.cpu()])


def plain_network(args):
    """Return the `PlainNetwork` of the options."""
    return PlainNetwork(build_unfused(args), example_images(args.image_shape, args.input_layout))


def build_inference_model(args, devices, get_plain=None):
    """Return the network of `--mode val` and `pred`: int8 if `--load` names one, else fused if possible.

    Args:
        get_plain: a function that returns the `PlainNetwork`, if others need it, too.

    Returns:
        The network, and a line for the log or None.

    Raises:
        UserError: `--load` does not fit the options.
    """
    if args.load is not None and args.load.int8_prefix is not None:
        return load_int8(args.load.int8_prefix, pick(NetworkDescription, args)), None
    net, note = None, None
    if args.inference_dtype == BFLOAT16:
        # MXNet's mixed precision leaves to float32 what needs it.
        args = with_changes(args, amp=True)
    if args.device == 'cpu' and len(devices) == 1 and not (args.no_fuse or args.amp):
        net, note = fuse(get_plain() if get_plain is not None else plain_network(args))
    return net or build_model(args, devices), note


def build_engine(args, devices):
    """Return the engine of `--mode val` and `pred`, and lines for the log; see inference/engines.py.

    Raises:
        UserError: `--load` does not fit the options, or the engine cannot compute the network.
    """
    get_plain = lru_cache(maxsize=None)(partial(plain_network, args))
    open_own = partial(_mxnet_engine, args, devices, get_plain)
    if args.engine == MXNET:
        return open_own()
    if args.load is not None and args.load.int8_prefix is not None:
        export = partial(_read_int8, args)
    else:
        export = partial(_export, args, get_plain)
    if args.engine == AUTO:
        return open_fastest(open_own, export, args.batch_size // distributed.size(), args.inference_dtype)
    return open_engine(args.engine, export(), args.inference_dtype)


def _mxnet_engine(args, devices, get_plain):
    net, note = build_inference_model(args, devices, get_plain)
    return MXNetEngine(net, pick(InputForm, args), devices[0]), [note] if note else []


def _export(args, get_plain):
    return export_for_engines(get_plain(), engine_key(args), f'--engine {args.engine}')


def _read_int8(args):
    images = example_images(args.image_shape, args.input_layout).asnumpy()
    return Exported(read_int8_model(args.load.int8_prefix, pick(NetworkDescription, args)), images, None, [])


def engine_key(args):
    """Return everything that determines the exported network, for the cache; None if its weights are random."""
    if args.load is None:
        return None
    network = pick(NetworkDescription, args).as_json()
    return {'checkpoint': file_sha256(args.load.path), 'network': network, 'versions': versions()}


def _with_values(net, args, devices):
    if args.load is None:
        initialize(net, devices)
    else:
        allocate(net, devices)
        load_parameters(net, args.load.path, with_output=not args.finetune)
        if args.finetune:
            _draw(net, [OUTPUT_WEIGHT])
    return net


def main():
    parser = ArgumentParser(description='Describes a network.')
    parser.add_argument('--summary', action='store_true', help='print the layers of the network')
    parser.add_argument(
        '--image-shape',
        type=parse_image_shape,
        help="(default: the architecture's own, else 3,224,224)",
    )
    parser.add_argument('--device', choices=('cpu', 'gpu'), default='cpu', help='(default: %(default)s)')
    add_model_args(parser)
    args = parser.parse_args()
    if not args.summary:
        parser.error('nothing to do: --summary prints the layers of the network')
    with one_line_errors():
        args = with_defaults(args, {'image_shape': default_image_shape(args.arch or DEFAULT_ARCH)})
        net = get_model(**model_options(args))
        print(format_layer_table(layer_table(net, args.image_shape)))


if __name__ == '__main__':
    run_program(main)
