"""Text for messages."""


def printable(text):
    """Return the text with unprintable characters escaped, so that it is one line of valid UTF-8."""
    return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in str(text))
