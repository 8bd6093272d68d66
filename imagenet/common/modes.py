"""The modes of `train.py`."""


def validates(args):
    return 'val' in args.mode or args.mode == 'calibrate'


# One process does that, whatever the number of devices.
MODES_OF_ONE_PROCESS = ('pred', 'calibrate', 'export')
# These need no data set.
MODES_WITHOUT_DATA = ('pred', 'export')
MODES = ('train_val', 'train', 'val', *MODES_OF_ONE_PROCESS)
