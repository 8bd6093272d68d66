"""batches.py: everything that reads an epoch is closed, whatever happens."""

import gc
import threading
from contextlib import contextmanager, nullcontext

import pytest

from helpers.loaders import RECORD_BACKENDS, load, make_args
from imagenet.input_pipeline.batches import DeviceBatches
from imagenet.runtime.compat import mx


class Epochs:
    """Epochs of five steps that record when they are opened and closed, and with which error."""

    def __init__(self):
        self.events = []

    @contextmanager
    def open(self, epoch):
        self.events.append(('open', epoch))
        try:
            yield iter(range(5))
        except BaseException as error:
            self.events.append(('error', type(error).__name__))
            raise
        finally:
            self.events.append(('close', epoch))


class Records:
    is_closed = False

    def close(self):
        self.is_closed = True


@pytest.fixture
def epochs():
    return Epochs()


@pytest.fixture
def records():
    return Records()


@pytest.fixture
def batches(epochs, records):
    return DeviceBatches(epochs.open, 4, 8, 1, 32, records)


def test_an_epoch_is_closed_before_the_next_one(epochs, batches):
    with batches:
        batches.reset(0)
        assert list(batches) == [0, 1, 2, 3]
        batches.reset(1, first_step=2)
        assert next(iter(batches)) == 2
    assert epochs.events == [('open', 0), ('close', 0), ('open', 1), ('close', 1)]
    assert list(batches) == []


def test_error_in_an_epoch(epochs, records, batches):
    with pytest.raises(ZeroDivisionError), batches:
        batches.reset(3)
        1 / next(iter(batches))
    assert epochs.events == [('open', 3), ('error', 'ZeroDivisionError'), ('close', 3)]
    assert records.is_closed


def test_nothing_was_read(epochs, records, batches):
    batches.close()
    batches.close()
    assert epochs.events == []
    assert records.is_closed


def readers():
    """Return what reads data in this process: objects of MXNet and DALI, and threads of Python."""
    from nvidia.dali import Pipeline

    kinds = (mx.io.MXDataIter, Pipeline)
    return [found for found in gc.get_objects() if isinstance(found, kinds)] + threading.enumerate()[1:]


@pytest.mark.parametrize('fails', [False, True])
@pytest.mark.parametrize('is_started', [False, True])
@pytest.mark.parametrize('backend', RECORD_BACKENDS)
def test_nothing_is_left_to_the_garbage_collector(small_data, backend, is_started, fails):
    gc.collect()
    before = len(readers())
    gc.disable()
    try:
        for batches in load(make_args(small_data, backend, num_examples=240)):
            # The exception, and so its frames, exists until the end of the test.
            kept = pytest.raises(ZeroDivisionError) if fails else nullcontext()
            with kept, batches:
                batches.reset(0)
                if is_started:
                    next(iter(batches))
                    assert len(readers()) > before
                if fails:
                    raise ZeroDivisionError
            assert len(readers()) == before
    finally:
        gc.enable()
