"""The environment variables that workers are started with, each with its reason: what is fastest on a CPU and on GPUs.

Needs nothing but Python: the launcher asks it. What the user has set wins.
"""

import os
import sys

from imagenet.launcher.cores import own_cores
from imagenet.launcher.ranks import local_size

MEBIBYTE = 1 << 20

# On GPUs, the host only feeds them. MXNet of NVIDIA's containers knows all of these; its wheel leaves out of account
# the asynchronous engine, adding in place and TensorRT.
GPU = {
    # Decoding has threads of its own, and MXNet's operators on the host are few and small.
    'OMP_NUM_THREADS': '1',
    # Two streams: one operator's tail runs beside the next one's beginning; one stream for copies.
    'MXNET_GPU_WORKER_NTHREADS': '2',
    'MXNET_GPU_COPY_NTHREADS': '1',
    # The optimizer runs where the gradients are, for up to 60 parameters in one kernel.
    'MXNET_UPDATE_ON_KVSTORE': '0',
    'MXNET_OPTIMIZER_AGGREGATION_SIZE': '60',
    # Gradients that come together at a shortcut are added in place.
    'MXNET_EXEC_ENABLE_ADDTO': '1',
    # Operators that the engine starts together: all of the forward pass, and of the backward pass so few that gradients
    # are sent while others are computed.
    'MXNET_EXEC_BULK_EXEC_MAX_NODE_TRAIN_FWD': '999',
    'MXNET_EXEC_BULK_EXEC_MAX_NODE_TRAIN_BWD': '25',
    # What they start is recorded once and started as a whole.
    'MXNET_ENABLE_CUDA_GRAPHS': '1',
    # The engine waits for a GPU's events on the GPU, not on the host.
    'MXNET_ASYNC_GPU_ENGINE': '1',
    # The search for the fastest convolution takes minutes, and finds another one in each run: results would not repeat.
    'MXNET_CUDNN_AUTOTUNE_DEFAULT': '0',
    # For inference, too, what runs is what was validated.
    'MXNET_USE_TENSORRT': '0',
}

# Gradients that are ready at the same time travel together, up to so many bytes.
FUSION = {'HOROVOD_FUSION_THRESHOLD': str(64 * MEBIBYTE)}
# Milliseconds between two looks at which gradients are ready: looking takes time of a core.
CPU_COMMUNICATION = {**FUSION, 'HOROVOD_CYCLE_TIME': '5'}
GPU_COMMUNICATION = {
    **FUSION,
    'HOROVOD_CYCLE_TIME': '0.1',
    # Gradients are gathered in the buffer that is sent by one kernel, not by a copy for each.
    'HOROVOD_BATCH_D2D_MEMCOPIES': '1',
    # The engine goes on as soon as the sum is on its way on the GPU.
    'HOROVOD_ENABLE_ASYNC_COMPLETION': '1',
}


def cpu_environment(processes_on_host):
    """What a process computes fastest with on its share of a host's cores."""
    return {
        'OMP_NUM_THREADS': str(len(own_cores(0, processes_on_host))),
        'OMP_PROC_BIND': 'true',
        # Batches are allocated again in each step: in huge pages, that costs a tenth less of the time for reading. And
        # the threshold for memory of an array's own, which otherwise moves, stays where small arrays leave no gaps.
        'GLIBC_TUNABLES': f'glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold={32 * MEBIBYTE}',
    }


def worker_environment(device, processes_on_host, communicates, network_interface=None):
    """All of them for one worker.

    Args:
        device: 'cpu' or 'gpu'.
        processes_on_host: workers that share a host.
        communicates: whether there are others to average gradients with.
        network_interface: what they do that over; None if Horovod may choose.
    """
    variables = dict(GPU) if device == 'gpu' else cpu_environment(processes_on_host)
    if communicates:
        variables.update(GPU_COMMUNICATION if device == 'gpu' else CPU_COMMUNICATION)
        if network_interface is not None:
            variables.update({'HOROVOD_GLOO_IFACE': network_interface, 'NCCL_SOCKET_IFNAME': network_interface})
    return variables


def restart_with_bound_threads():
    """Starts this program again with `cpu_environment`, unless somebody has said how many threads there shall be.

    These variables count when a program starts, or when MXNet is loaded.
    """
    if not {'OMP_NUM_THREADS', 'OMP_PROC_BIND'}.intersection(os.environ):
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.argv], {**cpu_environment(local_size()), **os.environ})
