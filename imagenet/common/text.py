"""Text for messages."""


def printable(text):
    """Return the text with unprintable characters escaped, so that it is one line of valid UTF-8."""
    text = str(text)
    if text.isprintable():
        return text
    return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in text)


def shortened(text, limit=200):
    """Return the text, cut off after `limit` characters."""
    return text if len(text) <= limit else f'{text[:limit]}…'
