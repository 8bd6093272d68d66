"""Argument types that several rooms' options share."""


def comma_separated(convert):
    """An argparse type: '3,224,224' to a tuple of converted values."""

    def parse(text):
        return tuple(convert(part) for part in text.split(','))

    parse.__name__ = f'comma-separated {convert.__name__}'
    return parse
