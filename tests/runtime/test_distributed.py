"""distributed.py: how the loss of another rank is recognized; and Horovod as scripts/setup.sh builds it."""

import sys
from types import SimpleNamespace

import pytest

from helpers.commands import succeed
from imagenet.common.errors import LostProcessError, UserError
from imagenet.runtime import distributed
from imagenet.runtime.compat import mx


@pytest.mark.parametrize(
    'text',
    [
        'Horovod has been shut down. This was caused by an exception on one of the ranks',
        # How MXNet reports gloo's error during an allreduce.
        'Traceback (most recent call last):\n  File "Read error [127.0.0.1]", line 34983\nConnection reset by peer',
        '[gloo/transport/tcp/pair.cc:575] Connection closed by peer [127.0.0.1]:4711',
        '[gloo/transport/tcp/pair.cc:547] Write error [10.0.0.2]:4711: Broken pipe',
    ],
)
def test_lost_process_in_the_words_of_horovod_and_gloo(text):
    with pytest.raises(LostProcessError), distributed.lost_process_errors():
        raise mx.base.MXNetError(text)
    with pytest.raises(mx.base.MXNetError, match='out of memory'), distributed.lost_process_errors():
        raise mx.base.MXNetError('out of memory')


@pytest.mark.parametrize(
    ('controller', 'said'),
    [('gloo', 'without Gloo: run scripts/setup.sh'), ('mpi', 'without MPI: apt-get install openmpi-bin')],
)
def test_horovod_without_what_the_launcher_needs(controller, said):
    horovod = SimpleNamespace(gloo_built=lambda: controller != 'gloo', mpi_built=lambda: controller != 'mpi')
    with pytest.raises(UserError, match=said):
        distributed.check_controller(controller, horovod)


@pytest.mark.parametrize(('started_by', 'expected'), [('HOROVOD_RANK', 'gloo'), ('OMPI_COMM_WORLD_RANK', 'None')])
def test_controller_of_a_launcher_that_names_none(started_by, expected):
    """A Horovod with MPI would use that, whoever has started it."""
    program = 'import os; from imagenet.runtime.distributed import load_horovod; load_horovod("horovod", "cpu"); '
    program += 'print(os.environ.get("HOROVOD_CONTROLLER"))'
    assert succeed(sys.executable, '-c', program, env={started_by: '0'}) == f'{expected}\n'


BROADCASTS = """
from imagenet.runtime.compat import mx
from imagenet.runtime.distributed import load_horovod
horovod = load_horovod('horovod', 'cpu')
horovod.init()
arrays = [mx.nd.ones(4) for _ in range(10)]
for _ in range(3000):
    for number, array in enumerate(arrays):
        horovod.broadcast_(array, 0, name=f'too-long-to-be-stored-in-place-{number}')
    mx.nd.waitall()
"""


def test_broadcast_may_finish_before_it_is_logged():
    """Without `mend_names` of scripts/setup.sh, this is a segmentation fault nearly always."""
    succeed(sys.executable, '-c', BROADCASTS, env={'HOROVOD_CYCLE_TIME': '0'})
