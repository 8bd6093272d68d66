"""Choosing and checking --device, --gpus and --dtype."""

import os
from pathlib import Path

from imagenet.common.errors import UserError
from imagenet.common.options import comma_separated, integer
from imagenet.runtime import cuda
from imagenet.runtime.compat import mx
from imagenet.runtime.distributed import local_rank, size

MOST_DEVICES = 99


def add_device_args(parser):
    group = parser.add_argument_group('Devices')
    group.add_argument(
        '--device',
        choices=('auto', 'cpu', 'gpu'),
        default='auto',
        help='what to compute on; auto: GPUs if MXNet finds any, else the CPU (default: %(default)s)',
    )
    group.add_argument(
        '--gpus',
        type=comma_separated(integer(0, MOST_DEVICES)),
        default=(0,),
        help='GPUs that a single process uses, for example 0,1; a CPU can act as several devices (default: 0)',
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
        'NVIDIA_TF32_OVERRIDE=0 turns off (default: float16 on GPUs, else float32)',
    )


def choose_device(device):
    """Return 'cpu' or 'gpu' for --device, which may be 'auto'."""
    if device == 'auto':
        return 'gpu' if count_gpus() else 'cpu'
    return device


def choose_dtype(device, dtype, amp):
    """Return the precision of the network for --dtype, which may be None, and --amp.

    Raises:
        UserError: the device cannot compute in this precision, or --amp rules it out.
    """
    if dtype is None:
        return 'float16' if device == 'gpu' and not amp else 'float32'
    if device == 'cpu' and dtype == 'float16':
        raise UserError('--dtype float16: MXNet has no float16 convolutions on a CPU; use --dtype float32')
    if amp and dtype == 'float16':
        raise UserError('--amp with --dtype float16: --amp chooses the precision itself; use --dtype float32')
    return dtype


def check_gpus(needed):
    """Raise `UserError` if there are fewer GPUs than needed, or MXNet cannot use them."""
    if not mx.runtime.Features().is_enabled('CUDA'):
        raise UserError(
            '--device gpu: the installed MXNet supports only CPUs: run scripts/setup.sh --gpu, or use --device cpu'
        )
    if cuda.has_wheel():
        cuda.check_supported(cuda.read_driver())
    num_gpus = count_gpus()
    if num_gpus == 0:
        raise UserError('--device gpu: MXNet finds no GPU here; use --device cpu')
    if needed > num_gpus:
        raise UserError(f'this takes {needed} GPUs, and MXNet finds {num_gpus} here; use fewer (-n, --gpus)')


def count_gpus():
    """Return the number of GPUs that MXNet finds.

    Raises:
        UserError: there are GPUs, but MXNet cannot use them.
    """
    try:
        count = mx.context.num_gpus()
    except mx.base.MXNetError as error:
        raise UserError(
            f'MXNet cannot use the GPUs here ({str(error).strip().splitlines()[-1]}); use --device cpu'
        ) from None
    is_hidden = os.environ.get('CUDA_VISIBLE_DEVICES') == ''
    if count == 0 and cuda.has_wheel() and Path('/dev/nvidia0').exists() and not is_hidden:
        # MXNet also finds none if the driver is too old.
        cuda.check_supported(cuda.read_driver())
    return count


def local_devices(device, gpus):
    """Return the devices that this process computes on.

    Args:
        device: 'cpu' or 'gpu'.
        gpus: numbers of the devices that a single process uses; a CPU can act as several devices, for experiments.
    """
    if size() > 1:
        return [mx.cpu() if device == 'cpu' else mx.gpu(local_rank())]
    return [mx.Context(device, index) for index in gpus]
