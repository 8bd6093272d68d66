"""The command-line parser and the argument types that the programs share."""

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
    """A parser that reports errors in one line, accepts no abbreviations, and reads more options from `@FILE`."""

    def __init__(self, **settings):
        super().__init__(allow_abbrev=False, fromfile_prefix_chars='@', **settings)

    def convert_arg_line_to_args(self, arg_line):
        """Return the options in one line of a recipe; text after # is a comment."""
        return shlex.split(arg_line, comments=True)

    def error(self, message):
        # argparse reports an unreadable @FILE with the bare text of Python's OSError.
        message = re.sub(r"^\[Errno \d+\] (.+): '(.+)'$", r'@\2: cannot read this recipe (\1)', message)
        # "argument -b/--batch-size: 0: must be at least 1" becomes "--batch-size 0: must be at least 1".
        message = re.sub(r'^argument (?:\S+/)?(-\S+): (\S+): (?=must be )', r'\1 \2: ', message)
        print(f'error: {message}; see {self.prog} --help', file=sys.stderr)
        sys.exit(USER_ERROR_EXIT_CODE)


def pick(options_class, args):
    """Return an instance of a dataclass, with each field taken from the parsed option of the same name."""
    return options_class(**{field.name: getattr(args, field.name) for field in fields(options_class)})


def with_changes(args, **changes):
    """Return a copy of the parsed options with some of them replaced."""
    return Namespace(**{**vars(args), **changes})


def as_json(value):
    """Return an option's value as JSON would restore it: paths and similar values as text."""
    return json.loads(json.dumps(value, default=str))


def as_text(value):
    """Return an option's value as a user types it."""
    if isinstance(value, (tuple, list)):
        return ','.join(map(as_text, value))
    return f'{value:.10g}' if isinstance(value, float) else str(value)


def with_defaults(args, defaults):
    """Return a copy of the parsed options in which defaults, given by name, replace those that were left out."""
    return with_changes(args, **{name: value for name, value in defaults.items() if getattr(args, name) is None})


def option_name(field):
    """Return '--batch-size' for 'batch_size'."""
    return f'--{field.replace("_", "-")}'


def comma_separated(convert):
    """Return an argparse type that converts text such as '3,224,224' to a tuple of values."""

    def parse(text):
        return tuple(convert(part) for part in text.split(','))

    parse.__name__ = f'comma-separated {convert.__name__}'
    return parse


def integer(at_least=None, at_most=None):
    """Return an argparse type for whole numbers within inclusive bounds."""
    return _bounded(int, 'a whole number', at_least=at_least, at_most=at_most)


def number(at_least=None, above=None, at_most=None, below=None):
    """Return an argparse type for finite numbers within bounds; `above` and `below` exclude the bound itself."""
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
