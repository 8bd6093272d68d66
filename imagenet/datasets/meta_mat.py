"""Reads `meta.mat` of ImageNet's development kit: the classes with their numbers, WordNet IDs and words.

SciPy reads it in a process of its own, which this module is, too: damaged files crash SciPy.
"""

import json
import resource
import subprocess
import sys
from collections import namedtuple
from io import BytesIO
from pathlib import Path

from imagenet.common.text import printable

PROJECT = Path(__file__).resolve().parents[2]

Synset = namedtuple('Synset', 'wordnet_id words')


def parse_synsets(content):
    """Return the `Synset`s without children in the bytes of a file, by their numbers.

    Raises:
        ValueError: they cannot be read; the message gives the reason.
    """
    reader = subprocess.run([sys.executable, '-m', __name__], input=content, capture_output=True, cwd=PROJECT)
    if reader.returncode != 0:
        lines = reader.stderr.decode(errors='replace').strip().splitlines()
        raise ValueError(printable(lines[-1]) if lines else 'damaged')
    return {number: Synset(printable(name), printable(words)) for number, name, words in json.loads(reader.stdout)}


def main():
    """Write the synsets in the file on stdin as JSON to stdout."""
    # A crash is reported, and needs no core dump.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from scipy.io import loadmat

    table = loadmat(BytesIO(sys.stdin.buffer.read()), variable_names=['synsets'], squeeze_me=True)['synsets']
    leaves = [row for row in table.reshape(-1) if row['num_children'] == 0]
    json.dump([(int(row['ILSVRC2012_ID']), str(row['WNID']), str(row['words'])) for row in leaves], sys.stdout)


if __name__ == '__main__':
    main()
