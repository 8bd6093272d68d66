"""--device, --gpus, --dtype: chosen and checked."""

import os
from pathlib import Path

from imagenet.common.errors import UserError
from imagenet.common.options import comma_separated
from imagenet.launcher import ranks
from imagenet.runtime import cuda
from imagenet.runtime.compat import mx
from imagenet.runtime.distributed import local_rank, size


def add_device_args(parser):
    group = parser.add_argument_group('Devices')
    group.add_argument(
        '--device',
        choices=('auto', 'cpu', 'gpu'),
        default='auto',
        help='what to compute on; auto: GPUs where MXNet sees one (default: %(default)s)',
    )
    group.add_argument(
        '--gpus',
        type=comma_separated(int),
        default=(0,),
        help='GPUs of a single process, for example 0,1; on a CPU it can be as many devices (default: 0)',
    )
    group.add_argument(
        '--kv-store',
        choices=('device', 'horovod'),
        default='device',
        help='what averages the gradients: MXNet in one process, or Horovod over several (default: %(default)s)',
    )
    group.add_argument(
        '--dtype',
        choices=('float32', 'float16'),
        help='precision of the network; float32 on an Ampere GPU or later is TF32, which the environment variable '
        'NVIDIA_TF32_OVERRIDE=0 turns off (default: float16 on GPUs, float32)',
    )


def choose_device(args):
    """Makes 'cpu' or 'gpu' of `--device auto`."""
    if args.device == 'auto':
        args.device = 'gpu' if count_gpus() else 'cpu'


def resolve_device(args):
    """Decides what depends on the device, once.

    Raises:
        UserError: the machine cannot do what the options ask for.
    """
    if args.device == 'gpu':
        check_gpus(max(ranks.local_size(), max(args.gpus) + 1))
    if args.dtype is None:
        args.dtype = 'float16' if args.device == 'gpu' and not args.amp else 'float32'
    if args.device == 'cpu' and args.dtype == 'float16':
        raise UserError('--dtype float16: MXNet has no float16 convolutions on a CPU; use --dtype float32')


def check_gpus(needed):
    """Raises `UserError` where there are not so many GPUs, or MXNet cannot use them."""
    if not mx.runtime.Features().is_enabled('CUDA'):
        raise UserError('--device gpu: MXNet here is for CPUs: run scripts/setup.sh --gpu, or use --device cpu')
    if cuda.has_wheel():
        cuda.check_supported(cuda.read_driver())
    num_gpus = count_gpus()
    if num_gpus == 0:
        raise UserError('--device gpu: MXNet sees no GPU here; use --device cpu')
    if needed > num_gpus:
        raise UserError(f'this takes {needed} GPUs, and MXNet sees {num_gpus} here; use fewer (-n, --gpus)')


def count_gpus():
    """The number of GPUs that MXNet sees.

    Raises:
        UserError: there are some, and MXNet cannot use them.
    """
    try:
        count = mx.context.num_gpus()
    except mx.base.MXNetError as error:
        raise UserError(f'MXNet cannot use the GPUs here ({str(error).strip().splitlines()[-1]})') from None
    is_hidden = os.environ.get('CUDA_VISIBLE_DEVICES') == ''
    if count == 0 and cuda.has_wheel() and Path('/dev/nvidia0').exists() and not is_hidden:
        # MXNet sees none where the driver is too old, too.
        cuda.check_supported(cuda.read_driver())
    return count


def local_devices(args):
    """The devices that this process computes on.

    Args:
        args: options with `device` ('cpu' or 'gpu') and `gpus` (a list of numbers).
    """
    if size() > 1:
        return [mx.cpu() if args.device == 'cpu' else mx.gpu(local_rank())]
    # A CPU can be several devices, which is good for trying things out.
    return [mx.Context(args.device, index) for index in args.gpus]
