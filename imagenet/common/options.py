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
from pathlib import Path

from imagenet.common.errors import USER_ERROR_EXIT_CODE, UserError
from imagenet.common.text import printable, shortened

# The default bound of numbers.
LARGEST = 2**31 - 1
# In a batch.
MOST_IMAGES = 1_000_000
# Of a learning rate; float32 ends soon after.
LARGEST_RATE = 1e38
# MXNet takes its parameters as float32, and refuses denormal numbers.
SMALLEST = 1e-37
LARGEST_SIDE = 8192
MOST_THREADS = 1024
MOST_VALUES_IN_A_LIST = 100
MOST_RECIPES = 100
MOST_RECIPE_BYTES = 1 << 16
LONGEST_VALUE_SHOWN = 100
LONGEST_MESSAGE = 1000


class ArgumentParser(argparse.ArgumentParser):
    """A parser that reports errors in one line, accepts no abbreviations, and reads more options from `@FILE`."""

    def __init__(self, **settings):
        super().__init__(allow_abbrev=False, **settings)

    def parse_known_args(self, args=None, namespace=None):
        try:
            expanded = _with_recipes(sys.argv[1:] if args is None else list(args))
        except UserError as error:
            self.error(str(error))
        return super().parse_known_args(expanded, namespace)

    def error(self, message):
        message = shortened(printable(message), LONGEST_MESSAGE)
        # "argument -b/--batch-size: 0: must be at least 1" becomes "--batch-size 0: must be at least 1".
        message = re.sub(r'^argument (?:\S+/)?(-\S+): (\S+): (?=must be )', r'\1 \2: ', message)
        print(f'error: {message}; see {self.prog} --help', file=sys.stderr)
        sys.exit(USER_ERROR_EXIT_CODE)


def _with_recipes(args):
    """Return arguments, with each `@FILE` replaced by the arguments in that recipe.

    Raises:
        UserError: a recipe cannot be read, or there are too many.
    """
    waiting, expanded, num_read = args[::-1], [], 0
    while waiting:
        arg = waiting.pop()
        if not arg.startswith('@'):
            expanded.append(arg)
        elif num_read == MOST_RECIPES:
            raise UserError(f'{arg}: more than {MOST_RECIPES} recipes in one command; does this one contain itself?')
        else:
            num_read += 1
            waiting.extend(_read_recipe(Path(arg[1:]))[::-1])
    return expanded


def _read_recipe(path):
    """Return the arguments in a recipe; text after # is a comment."""
    try:
        with path.open('rb') as file:
            content = file.read(MOST_RECIPE_BYTES + 1)
        if len(content) > MOST_RECIPE_BYTES or b'\0' in content:
            raise ValueError('not a text file')
        return [arg for line in content.decode('utf-8').splitlines() for arg in shlex.split(line, comments=True)]
    except OSError as error:
        raise UserError(f'@{path}: cannot read this recipe ({error.strerror})') from None
    except ValueError as error:
        raise UserError(f'@{path}: cannot read this recipe ({error})') from None


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


def check_utf8(args):
    """Raise `UserError` if an option is not valid UTF-8. MXNet opens no file with such a name."""
    for name, value in vars(args).items():
        try:
            str(value).encode()
        except UnicodeEncodeError:
            raise UserError(f'{option_name(name)} {value}: not valid UTF-8; use another name') from None


def comma_separated(convert):
    """Return an argparse type that converts text such as '3,224,224' to a tuple of values."""

    def parse(text):
        parts = text.split(',')
        if len(parts) > MOST_VALUES_IN_A_LIST:
            raise ArgumentTypeError(f'{_brief(text)}: must be at most {MOST_VALUES_IN_A_LIST} values')
        return tuple(map(convert, parts))

    return parse


def pair(first, second):
    """Return an argparse type that converts text such as '13:224' to a tuple of two values."""

    def parse(text):
        left, separator, right = text.partition(':')
        if not separator:
            raise ArgumentTypeError(f'{_brief(text)}: must be two numbers with a colon in between')
        return first(left), second(right)

    return parse


def names_from(known):
    """Return an argparse type that converts text such as 'bias,batchnorm' to a tuple; 'none' becomes an empty one."""

    def parse(text):
        names = () if text == 'none' else tuple(text.split(','))
        if not set(names) <= set(known):
            raise ArgumentTypeError(f'{_brief(text)}: must be none, or some of {", ".join(known)}, separated by commas')
        return names

    return parse


IMAGE_SHAPE_RULE = 'must be CHANNELS,HEIGHT,WIDTH with 3 or 4 channels'


def is_image_shape(shape):
    return len(shape) == 3 and shape[0] in (3, 4)


def parse_image_shape(text):
    """Argparse type for the shape of an image: '3,224,224' becomes a tuple."""
    shape = comma_separated(integer(1, LARGEST_SIDE))(text)
    if not is_image_shape(shape):
        raise ArgumentTypeError(f'{_brief(text)}: {IMAGE_SHAPE_RULE}')
    return shape


def integer(at_least=None, at_most=None):
    """Return an argparse type for whole numbers within inclusive bounds; by default, they are `LARGEST` at most."""
    return _bounded(_whole, 'a whole number', at_least=at_least, at_most=at_most)


def number(at_least=None, above=None, at_most=None, below=None):
    """Return an argparse type for numbers within bounds, by default `LARGEST` at most.

    `above` and `below` exclude the bound itself.
    """
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
            raise ArgumentTypeError(f'{_brief(text)}: must be {name}') from None
        if not all(BOUNDS[kind][1](value, bound) for kind, bound in bounds.items()):
            raise ArgumentTypeError(f'{_brief(text)}: must be {rule}')
        if 'at_most' not in bounds and abs(value) > LARGEST:
            raise ArgumentTypeError(f'{_brief(text)}: must be at most {LARGEST}')
        if 0 < abs(value) < SMALLEST:
            raise ArgumentTypeError(f'{_brief(text)}: must be 0 or at least {SMALLEST}')
        return value

    return parse


def _brief(text):
    return shortened(text, LONGEST_VALUE_SHOWN)


def _whole(text):
    # Python needs quadratic time for long numbers.
    if len(text) > LONGEST_VALUE_SHOWN:
        raise ValueError
    return int(text)


def _finite(text):
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value
