"""An int8 network in benchmark.py, and one process at a time."""

import sys

from helpers.commands import SMALL, assert_user_error, call

# Validation images are decoded as those of prediction.
RUN = ('./runner', *SMALL, '--data-backend', 'mxnet', '--mode')


CALIBRATE = (*RUN, 'calibrate', '--seed', '1')


class TestBadInput:
    def test_several_processes(self, trained):
        command = (sys.executable, 'train.py', '--device', 'cpu', '--mode', 'calibrate')
        result = call(*command, '--load', trained / 'model_best.params', env={'HOROVOD_SIZE': '2'})
        assert_user_error(result, '--mode calibrate with 2 processes')
