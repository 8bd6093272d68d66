"""distributed.py: how the loss of another rank is recognized."""

import pytest

from imagenet.common.errors import LostProcessError
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
