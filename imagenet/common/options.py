"""What several programs' options share: the parser and argument types."""

import argparse
import sys
from argparse import ArgumentTypeError

from imagenet.common.errors import USER_ERROR_EXIT_CODE


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


def fraction(text):
    """An argparse type."""
    value = float(text)
    if not 0 < value < 1:
        raise ArgumentTypeError(f'{text}: should be between 0 and 1')
    return value


def whole_number(lowest, highest):
    """An argparse type."""

    def parse(text):
        value = int(text)
        if not lowest <= value <= highest:
            raise ArgumentTypeError(f'{text}: should be {lowest} to {highest}')
        return value

    parse.__name__ = 'whole number'
    return parse
