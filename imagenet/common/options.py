"""What several programs' options share: the parser and argument types."""

import argparse
import json
import math
import operator
import re
import shlex
import sys
from argparse import ArgumentTypeError, Namespace
from dataclasses import fields

from imagenet.common.errors import USER_ERROR_EXIT_CODE


class ArgumentParser(argparse.ArgumentParser):
    """Reports wrong options in one line, takes no abbreviations, and reads further options from `@FILE`."""

    def __init__(self, **settings):
        super().__init__(allow_abbrev=False, fromfile_prefix_chars='@', **settings)

    def convert_arg_line_to_args(self, arg_line):
        """Return the options in a line of a recipe, which may end with a comment."""
        return shlex.split(arg_line, comments=True)

    def error(self, message):
        # What argparse says of a file behind @ is Python's own text.
        message = re.sub(r"^\[Errno \d+\] (.+): '(.+)'$", r'@\2: cannot read this recipe (\1)', message)
        # "argument -b/--batch-size: 0: must be at least 1", as all other errors name an option and its value.
        message = re.sub(r'^argument (?:\S+/)?(-\S+): (\S+): (?=must be )', r'\1 \2: ', message)
        print(f'error: {message}; see {self.prog} --help', file=sys.stderr)
        sys.exit(USER_ERROR_EXIT_CODE)


def pick(options_class, args):
    """Return a dataclass with those of the parsed options that it has fields for."""
    return options_class(**{field.name: getattr(args, field.name) for field in fields(options_class)})


def with_changes(args, **changes):
    """Return parsed options of which some are others."""
    return Namespace(**{**vars(args), **changes})


def as_json(value):
    """Return an option's value as JSON can hold it: paths and the like as text."""
    return json.loads(json.dumps(value, default=str))


def option_name(field):
    """Return '--batch-size' for 'batch_size'."""
    return f'--{field.replace("_", "-")}'


def comma_separated(convert):
    """An argparse type: '3,224,224' to a tuple of converted values."""

    def parse(text):
        return tuple(convert(part) for part in text.split(','))

    parse.__name__ = f'comma-separated {convert.__name__}'
    return parse


def integer(at_least=None, at_most=None):
    """Return an argparse type: a whole number, with bounds that belong to it."""
    return _bounded(int, 'a whole number', at_least=at_least, at_most=at_most)


def number(at_least=None, above=None, at_most=None, below=None):
    """Return an argparse type: a finite number, with bounds; `above` and `below` exclude the bound itself."""
    return _bounded(_finite, 'a number', at_least=at_least, above=above, at_most=at_most, below=below)


BOUNDS = {
    'at_least': ('at least', operator.ge),
    'above': ('more than', operator.gt),
    'at_most': ('at most', operator.le),
    'below': ('less than', operator.lt),
}


def _bounded(convert, name, **bounds):
    bounds = {kind: bound for kind, bound in bounds.items() if bound is not None}
    rule = ' and '.join(f'{BOUNDS[kind][0]} {bound}' for kind, bound in bounds.items())
    if bounds.keys() == {'at_least', 'at_most'}:
        rule = f'{bounds["at_least"]} to {bounds["at_most"]}'

    def parse(text):
        try:
            value = convert(text)
        except ValueError:
            raise ArgumentTypeError(f'{text}: must be {name}') from None
        if not all(BOUNDS[kind][1](value, bound) for kind, bound in bounds.items()):
            raise ArgumentTypeError(f'{text}: must be {rule}')
        return value

    return parse


def _finite(text):
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value
