"""Loads an int8 network that `--mode calibrate` wrote."""

import json
from pathlib import Path

from imagenet.common.errors import UserError
from imagenet.common.files import file_sha256
from imagenet.inference.fused_graph import network_of
from imagenet.runtime.compat import mx


def int8_files(prefix):
    """Return the files of an int8 network: its graph, its parameters, and its description."""
    return tuple(Path(f'{prefix}{ending}') for ending in ('-symbol.json', '.params', '.json'))


def read_int8_description(prefix):
    """Return the description that calibration.py wrote.

    Raises:
        UserError: the description is missing or does not describe an int8 network.
    """
    path = int8_files(prefix)[2]
    try:
        description = json.loads(path.read_text(encoding='utf-8'))
        return {name: description[name] for name in ('network', 'input', 'files', 'classes')}
    except OSError as error:
        raise UserError(f'--load {prefix}: cannot read {path} ({error.strerror}); run --mode calibrate') from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f'--load {prefix}: {path} does not describe an int8 network') from None


def load_int8(prefix, wanted):
    """Load an int8 network.

    Args:
        wanted: the `NetworkDescription` from the options.

    Raises:
        UserError: its files are missing, damaged or of different networks, or the options describe another network.
    """
    description = read_int8_description(prefix)
    theirs, ours = description['network'], wanted.as_json()
    different = [
        f'--{name.replace("_", "-")} {_shown(ours[name])} instead of {_shown(theirs.get(name))}'
        for name in ours
        if ours[name] != theirs.get(name)
    ]
    if different:
        raise UserError(f'--load {prefix}: an int8 file of another network: {"; ".join(different)}')
    symbol_path, array_path, _ = int8_files(prefix)
    for path in (symbol_path, array_path):
        if not path.exists() or file_sha256(path) != description['files'].get(path.name):
            raise UserError(f'--load {prefix}: {path} is missing, damaged or of another network; calibrate again')
    return network_of(mx.sym.load(str(symbol_path)), mx.nd.load(str(array_path)))


def _shown(value):
    return ','.join(map(str, value)) if isinstance(value, list) else value
