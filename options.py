"""What several programs' options share: the parser and argument types."""

import argparse
import sys

from errors import USER_ERROR_EXIT_CODE

# One process does that, whatever the number of devices.
MODES_OF_ONE_PROCESS = ('pred', 'calibrate', 'export')
# These need no data set.
MODES_WITHOUT_DATA = ('pred', 'export')
MODES = ('train_val', 'train', 'val', *MODES_OF_ONE_PROCESS)


class ArgumentParser(argparse.ArgumentParser):
    """Says in one line what is wrong with the options, and takes no abbreviations."""

    def __init__(self, **settings):
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message):
        print(f'error: {message}; see {self.prog} --help', file=sys.stderr)
        sys.exit(USER_ERROR_EXIT_CODE)


def comma_separated(convert):
    """An argparse type: '3,224,224' to a tuple of converted values."""

    def parse(text):
        return tuple(convert(part) for part in text.split(','))

    parse.__name__ = f'comma-separated {convert.__name__}'
    return parse
