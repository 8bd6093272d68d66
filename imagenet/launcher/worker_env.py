"""Environment variables of a worker, each with its reason: the fastest settings for a CPU and for GPUs.

Uses the standard library only, because the launcher imports it. Variables that the user has set take precedence.
"""

import os
import sys

from imagenet.common.program import replace_program
from imagenet.launcher.cores import own_cores
from imagenet.launcher.ranks import local_size

MEBIBYTE = 1 << 20

# With GPUs, the host only feeds them. MXNet in NVIDIA's containers supports all of these variables; MXNet's wheel
# ignores those for the asynchronous engine, in-place addition and TensorRT.
GPU = {
    # Decoding has separate threads, and MXNet's operators on the host are few and small.
    'OMP_NUM_THREADS': '1',
    # Two streams, so that the end of one operator overlaps with the start of the next; one stream for copies.
    'MXNET_GPU_WORKER_NTHREADS': '2',
    'MXNET_GPU_COPY_NTHREADS': '1',
    # The optimizer runs where the gradients are, for up to 60 parameters in one kernel.
    'MXNET_UPDATE_ON_KVSTORE': '0',
    'MXNET_OPTIMIZER_AGGREGATION_SIZE': '60',
    # Gradients that meet at a shortcut are added in place.
    'MXNET_EXEC_ENABLE_ADDTO': '1',
    # The number of operators that the engine starts together: all of the forward pass, but only a few of the backward
    # pass, so that some gradients are sent while others are computed.
    'MXNET_EXEC_BULK_EXEC_MAX_NODE_TRAIN_FWD': '999',
    'MXNET_EXEC_BULK_EXEC_MAX_NODE_TRAIN_BWD': '25',
    # The kernels of these operators are recorded once and started together.
    'MXNET_ENABLE_CUDA_GRAPHS': '1',
    # The engine waits for a GPU's events on the GPU, not on the host.
    'MXNET_ASYNC_GPU_ENGINE': '1',
    # The search for the fastest convolution takes minutes and may choose differently in each run, so that results would
    # not be reproducible.
    'MXNET_CUDNN_AUTOTUNE_DEFAULT': '0',
    # Inference, too, must run the operators that were validated.
    'MXNET_USE_TENSORRT': '0',
}

# Gradients that are ready at the same time are sent together, up to this many bytes.
FUSION = {'HOROVOD_FUSION_THRESHOLD': str(64 * MEBIBYTE)}
# Milliseconds between two checks for ready gradients; each check takes CPU time.
CPU_COMMUNICATION = {**FUSION, 'HOROVOD_CYCLE_TIME': '5'}
GPU_COMMUNICATION = {
    **FUSION,
    'HOROVOD_CYCLE_TIME': '0.1',
    # One kernel gathers all gradients in the send buffer, instead of one copy for each gradient.
    'HOROVOD_BATCH_D2D_MEMCOPIES': '1',
    # The engine continues as soon as the sum is queued on the GPU.
    'HOROVOD_ENABLE_ASYNC_COMPLETION': '1',
}


def cpu_environment(processes_on_host):
    """Return the variables with which a process is fastest on its share of a host's cores."""
    return {
        'OMP_NUM_THREADS': str(len(own_cores(0, processes_on_host))),
        'OMP_PROC_BIND': 'true',
        # Batches are allocated again in each step; with huge pages, reading takes a tenth less time. The threshold
        # above which an array gets a separate mapping is fixed, because glibc would otherwise move it, and small arrays
        # would leave gaps. glibc then returns more than 128 kB of free memory to the system at once, and each decoded
        # image would fault it in again, a sixth of decoding: twice the first threshold is what glibc itself would use.
        'GLIBC_TUNABLES': (
            f'glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold={32 * MEBIBYTE}'
            f':glibc.malloc.trim_threshold={64 * MEBIBYTE}'
        ),
    }


def worker_environment(device, processes_on_host, communicates, network_interface=None):
    """Return all variables for one worker.

    Args:
        device: 'cpu' or 'gpu'.
        processes_on_host: the number of workers that share a host.
        communicates: whether the worker averages gradients with others.
        network_interface: the interface to use between workers, or None to let Horovod choose.
    """
    variables = dict(GPU) if device == 'gpu' else cpu_environment(processes_on_host)
    if communicates:
        variables.update(GPU_COMMUNICATION if device == 'gpu' else CPU_COMMUNICATION)
        if network_interface is not None:
            variables.update({'HOROVOD_GLOO_IFACE': network_interface, 'NCCL_SOCKET_IFNAME': network_interface})
    return variables


def restart_with_bound_threads():
    """Restart this program with `cpu_environment`, unless OMP_NUM_THREADS or OMP_PROC_BIND is set.

    These variables take effect only when a program starts or when MXNet is loaded.
    """
    if not {'OMP_NUM_THREADS', 'OMP_PROC_BIND'}.intersection(os.environ):
        replace_program([sys.executable, *sys.argv], {**cpu_environment(local_size()), **os.environ})
