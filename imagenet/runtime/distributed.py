"""The processes of a run: rank, size, and communication between them.

The functions work the same way with Horovod and in a single process. All communication through Horovod is in this
module.
"""

import json
import os
import signal
import socket
from contextlib import contextmanager

import numpy as np

from imagenet.common.errors import LostProcessError, UserError
from imagenet.launcher import ranks
from imagenet.runtime.compat import load_mxnet, mx
from imagenet.runtime.rendezvous import meet

# Number of calls that average the gradients of a step; 0: one call per array. With GPUs, 161 separate calls would keep
# the host busy.
GRADIENT_GROUPS = {'cpu': 0, 'gpu': 16}
# Texts of the errors after another process has ended: from Horovod at the next call, from Gloo during a call.
LOST_CONNECTION = (
    'Horovod has been shut down',
    'Read error [',
    'Write error [',
    'Read timeout [',
    'Write timeout [',
    'Connection closed by peer',
    'Connection reset by peer',
    'Application timeout caused pair closure',
    'Timed out waiting',
)

_horovod = None
_broadcasts = 0


def load_horovod(kv_store, device):
    """Return Horovod's module for MXNet.

    Raises:
        UserError: Horovod is not installed, was built without what the device needs, or is not named by --kv-store.
    """
    if kv_store != 'horovod':
        raise UserError(f'--kv-store {kv_store} with {ranks.size()} processes: use --kv-store horovod')
    load_mxnet()
    try:
        import horovod.mxnet
    except ImportError as error:
        raise UserError(f'Horovod for MXNet is not installed ({error}); run scripts/setup.sh') from None
    if device == 'gpu' and not horovod.mxnet.cuda_built():
        raise UserError(
            'this Horovod was built without CUDA: run scripts/setup.sh --gpu on a machine with a CUDA 11 toolkit, or '
            'use --kv-store device for the GPUs of one machine'
        )
    if not ranks.is_from_mpirun():
        # With MPI built in, Horovod would otherwise use that, and each process would be alone.
        for name in ('HOROVOD_CONTROLLER', 'HOROVOD_CPU_OPERATIONS'):
            os.environ.setdefault(name, 'gloo')
    check_controller(os.environ.get('HOROVOD_CONTROLLER'), horovod.mxnet)
    return horovod.mxnet


def check_controller(controller, horovod):
    """Raise `UserError` if Horovod was built without the controller ('gloo', 'mpi' or None) of this run."""
    if controller == 'gloo' and not horovod.gloo_built():
        raise UserError('this Horovod was built without Gloo: run scripts/setup.sh, or use --launcher mpi')
    if controller == 'mpi' and not horovod.mpi_built():
        raise UserError(
            '--launcher mpi: this Horovod was built without MPI: apt-get install openmpi-bin libopenmpi-dev and run '
            'scripts/setup.sh, or use --launcher horovod'
        )


def initialize(kv_store, device):
    """Join the other processes, if there are any.

    Raises:
        UserError: the launcher started several processes, but they cannot work together.
    """
    global _horovod
    if ranks.size() == 1:
        return
    horovod = load_horovod(kv_store, device)
    meet(os.environ)
    horovod.init()
    if horovod.size() != ranks.size():
        raise UserError(f'Horovod connects {horovod.size()} of {ranks.size()} processes: start them with ./runner')
    _horovod = horovod


def rank():
    return _horovod.rank() if _horovod else 0


def size():
    return _horovod.size() if _horovod else 1


def local_rank():
    return _horovod.local_rank() if _horovod else 0


def allreduce_sum(values):
    """Sum float64 values over all processes.

    Args:
        values: a sequence of n numbers.

    Returns:
        A float64 array of shape (n,), the same on every process.
    """
    values = np.asarray(values, dtype=np.float64)
    if size() == 1:
        return values
    total = _horovod.allreduce(mx.nd.array(values, dtype='float64'), average=False, name='allreduce_sum')
    return total.asnumpy()


def gather(values):
    """Return float64 values of every process, as an array `(processes, values)`, on all of them."""
    everything = np.zeros((size(), len(values)))
    everything[rank()] = values
    return allreduce_sum(everything.ravel()).reshape(everything.shape)


def gather_rows(rows):
    """Return the rows of all processes, in the order of the ranks, on all of them.

    Args:
        rows: a float64 array `(n, columns)`; n may differ between the processes.
    """
    if size() == 1:
        return rows
    ends = gather([len(rows)])[:, 0].astype(np.int64).cumsum()
    everything = np.zeros((ends[-1], rows.shape[1]))
    everything[ends[rank()] - len(rows) : ends[rank()]] = rows
    return allreduce_sum(everything.ravel()).reshape(everything.shape)


def average(arrays):
    """Replace each NDArray by its mean over all processes."""
    if size() == 1:
        return
    for index, array in enumerate(arrays):
        _horovod.allreduce_(array, average=True, name=f'average.{index}')


def broadcast(params):
    """Set a `ParameterDict` or a dict of arrays to rank 0's values on every process."""
    global _broadcasts
    if size() > 1:
        _horovod.broadcast_parameters(params, root_rank=0, prefix=f'broadcast.{_broadcasts}.')
        # Broadcasts that run at the same time need different names.
        _broadcasts += 1


def broadcast_json(content):
    """Return rank 0's content, which may be None, on every process. The content of other ranks is ignored."""
    if size() == 1:
        return content
    encoded = np.frombuffer(json.dumps(content).encode(), dtype=np.uint8) if rank() == 0 else np.empty(0, np.uint8)
    length = int(allreduce_sum([len(encoded)])[0])
    own = encoded if rank() == 0 else np.zeros(length, dtype=np.uint8)
    return json.loads(allreduce_sum(own).astype(np.uint8).tobytes().decode())


def gather_json(content):
    """Return the content of every process, as a list by rank, on all processes. Meant for small content."""
    if size() == 1:
        return [content]
    encoded = np.frombuffer(json.dumps(content).encode(), dtype=np.uint8)
    lengths = np.zeros(size())
    lengths[rank()] = len(encoded)
    ends = allreduce_sum(lengths).astype(np.int64).cumsum()
    own = np.zeros(ends[-1])
    own[ends[rank()] - len(encoded) : ends[rank()]] = encoded
    everything = allreduce_sum(own).astype(np.uint8)
    return [json.loads(part.tobytes().decode()) for part in np.split(everything, ends[:-1])]


def check_ranks_agree(facts, advice):
    """Check that all processes have the same facts.

    Args:
        facts: strings or numbers by name.
        advice: what a user can do if they differ.

    Raises:
        UserError: they differ; every process raises it.
    """
    if size() == 1:
        return
    gathered = gather_json([socket.gethostname(), facts])
    first_host, first = gathered[0]
    for other_rank, (host, other) in enumerate(gathered):
        for name in first:
            if other.get(name) != first[name]:
                raise UserError(
                    f'{name} is {first[name]} on rank 0 ({first_host}) and {other.get(name)} on rank {other_rank} '
                    f'({host}); {advice}'
                )


@contextmanager
def lost_process_errors():
    """Turn the errors that Horovod raises after another process has ended into a `LostProcessError`.

    Raises:
        LostProcessError: another process has ended.
    """
    try:
        yield
    except BaseException as error:
        is_lost = isinstance(error, mx.base.MXNetError) and any(text in str(error) for text in LOST_CONNECTION)
        if is_lost or size() > 1:
            # The launcher ends the remaining ranks with SIGINT. This one is already ending, perhaps while a file is
            # being written.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        if is_lost:
            raise LostProcessError('another rank has ended, so this one stops') from None
        raise


class AnyRankFlag:
    """A yes-or-no question that all processes ask repeatedly, each with its own answer.

    Each call returns the combined answer to the previous call, so that no process waits for it.
    """

    def __init__(self):
        self._asked = 0
        self._pending = None

    def any(self, answer):
        """Return whether any process answered yes to the previous call; a single process gets its answer at once."""
        if size() == 1:
            return answer
        previous = self._pending
        name = f'agreement.{self._asked % 2}'
        self._pending = _horovod.allreduce(mx.nd.array([answer]), average=False, name=name)
        self._asked += 1
        return previous is not None and previous.asscalar() > 0


def barrier():
    """Return when every process has called this function."""
    allreduce_sum([0])


def make_trainer(params, optimizer, devices):
    """Return a Gluon trainer whose `step()` averages the gradients over processes and devices."""
    if size() > 1:
        return _horovod.DistributedTrainer(params, optimizer, num_groups=GRADIENT_GROUPS[devices[0].device_type])
    trainer = mx.gluon.Trainer(
        params, optimizer, kvstore='device' if len(devices) > 1 else None, update_on_kvstore=False
    )
    # It would copy the first device's parameters to the others in its first step, and with them the running statistics
    # that this step has updated.
    trainer._init_kvstore()
    trainer._init_params()
    return trainer
