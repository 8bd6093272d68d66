"""Compares the names of classes, which may begin with a WordNet ID.

The names of ImageNet's folders are such IDs, as n01440764. A name is the ID alone, or the ID and words.
"""

import re

WORDNET_ID = re.compile(r'n[0-9]{8}(?= |$)')


def short_name(name):
    """Return a class name without its WordNet ID, unless it is all of it, and without synonyms after a comma."""
    words = WORDNET_ID.sub('', name, count=1).strip() or name
    return words.split(',')[0]


def is_same_class(name, other):
    """Return whether two names are equal or have the same WordNet ID."""
    ids = [WORDNET_ID.match(text) for text in (name, other)]
    return name == other or (None not in ids and ids[0][0] == ids[1][0])
