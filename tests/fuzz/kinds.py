"""The kinds of mutations: each makes hostile files or options in a scratch folder, and a command that meets them."""

import gzip
import hashlib
import json
import os
import shutil
from functools import lru_cache, partial
from pathlib import Path

from fuzz.assets import BENCHMARK, NETWORK, SYNTHETIC, TRAIN
from fuzz.mutators import as_json, hostile_value, mutate_bytes, mutate_json

# Headers are at the beginning, and a mutation in the middle of the values changes nothing that is checked.
HEADER_BYTES = 2000
PREDICT = ('train.py', *NETWORK, '--data-val-resize', '32', '--mode', 'pred', '--data-pred', 'image.jpg')
AVERAGE = ('scripts/average_checkpoints.py', '-o', 'average.params')


class Scene:
    """A folder in which a command runs, and the intact files.

    Args:
        random: the source of all mutations.
        assets: the folder of `make_assets`.
        folder: an empty folder.
        options_of: a function that returns the options of a program.
    """

    def __init__(self, random, assets, folder, options_of):
        self.random = random
        self.assets = assets
        self.folder = folder
        self.options_of = options_of

    def link(self, *names, under='.'):
        """Make intact files available; the programs replace files, and never change them."""
        (self.folder / under).mkdir(parents=True, exist_ok=True)
        for name in names:
            os.link(self.assets / name, self.folder / under / Path(name).name)

    def write(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content)

    def link_image(self):
        os.link(self.assets / 'tree/val/class0/0.jpg', self.folder / 'image.jpg')


@lru_cache(maxsize=None)
def _bytes(path):
    return path.read_bytes()


@lru_cache(maxsize=None)
def _json(path):
    return json.loads(path.read_bytes())


def params(scene):
    """A parameter file: usually a few arrays of the checkpoint, so that most mutations change its structure."""
    whole = _bytes(scene.assets / 'net/model_0001.params')
    scene.link_image()
    if scene.random.random() < 0.1:
        scene.write('net.params', mutate_bytes(scene.random, whole, HEADER_BYTES))
    else:
        scene.write('net.params', mutate_bytes(scene.random, _few_arrays(scene.assets)))
    if scene.random.random() < 0.2:
        return (*AVERAGE, 'net.params', 'net.params')
    return (*PREDICT, '--load', 'net.params')


@lru_cache(maxsize=None)
def _few_arrays(assets):
    from imagenet.runtime.compat import mx

    arrays = mx.nd.load(str(assets / 'net/model_0001.params'))
    small = {name: array for name, array in arrays.items() if array.size <= 64}
    # One has no place in a network, and one would be nameless in the original.
    chosen = {**dict(list(small.items())[:6]), 'resnetv10_gamma': mx.nd.ones(3), 'output.weight': mx.nd.ones((10, 4))}
    path = assets / f'few-{os.getpid()}.params'
    mx.nd.save(str(path), chosen)
    return path.read_bytes()


def safetensors(scene):
    """A safetensors file with a few arrays, which has a header and a description in JSON."""
    scene.link_image()
    scene.write('net.safetensors', mutate_bytes(scene.random, _few_tensors(scene.assets), HEADER_BYTES))
    return (*PREDICT, '--load', 'net.safetensors')


@lru_cache(maxsize=None)
def _few_tensors(assets):
    from imagenet.checkpoints.weight_file import read_weights, write_safetensors

    arrays, description = read_weights(assets / 'net.safetensors')
    few = {name: array for name, array in arrays.items() if array.size <= 64}
    path = assets / f'few-{os.getpid()}.safetensors'
    write_safetensors(path, dict(list(few.items())[:6]), description)
    return path.read_bytes()


def pytorch(scene):
    """A file of PyTorch: mutated as a whole, or an archive whose pickle is mutated."""
    from helpers.pytorch_files import archive_with, file_with, torch_names, weights_with

    scene.link_image()
    with torch_names() as torch:
        content, storages = weights_with(torch, _few_weights(scene.assets))
        write = scene.random.choice((file_with, archive_with))
        intact = write(content, *storages).getvalue()
        if write is archive_with and scene.random.random() < 0.7:
            mutated = archive_with(content, *storages, change=partial(mutate_bytes, scene.random)).getvalue()
        else:
            mutated = mutate_bytes(scene.random, intact)
    scene.write('net.pth', mutated)
    return (*PREDICT, '--load', 'net.pth')


@lru_cache(maxsize=None)
def _few_weights(assets):
    from imagenet.checkpoints.weight_file import read_weights

    arrays = read_weights(assets / 'net.safetensors').arrays
    return {name: array.asnumpy() for name, array in arrays.items() if array.size <= 64 or name == 'fc.weight'}


def symbol(scene):
    """The graph or the parameters of a network of MXNet's model zoo."""
    scene.link_image()
    scene.link('zoo-0000.params', 'zoo-symbol.json')
    if scene.random.random() < 0.8:
        scene.write('zoo-symbol.json', mutate_json(scene.random, _json(scene.assets / 'zoo-symbol.json')))
    else:
        scene.write(
            'zoo-0000.params', mutate_bytes(scene.random, _bytes(scene.assets / 'zoo-0000.params'), HEADER_BYTES)
        )
    return (*PREDICT, '--load', 'zoo-0000.params')


def manifest(scene):
    """A checkpoint: usually its manifest, else one of its parts, with the manifest changed to fit."""
    content = _json(scene.assets / 'net/model_resume.json')
    parts = {name: part['file'] for name, part in content['parts'].items()}
    scene.link(*(f'net/{file}' for file in parts.values()), under='run')
    if scene.random.random() < 0.9:
        scene.write('run/model_resume.json', mutate_json(scene.random, content))
    else:
        name, file = scene.random.choice(sorted(parts.items()))
        mutated = mutate_bytes(scene.random, _bytes(scene.assets / 'net' / file), HEADER_BYTES)
        scene.write(f'run/{file}', mutated)
        part = {'file': file, 'sha256': hashlib.sha256(mutated).hexdigest()}
        scene.write('run/model_resume.json', as_json({**content, 'parts': {**content['parts'], name: part}}))
    return (*TRAIN, '--save-frequency', '0', '--workspace', 'run')


def int8(scene):
    """An int8 network: its description, its graph or its parameters; the last two often with the right checksum."""
    description = _json(scene.assets / 'net-int8.json')
    scene.link_image()
    scene.link('net-int8.params', 'net-int8-symbol.json')
    what = scene.random.randrange(4)
    if what < 2:
        scene.write('net-int8.json', mutate_json(scene.random, description))
        return (*PREDICT, '--load', 'net-int8')
    if what == 2:
        name = 'net-int8-symbol.json'
        mutated = mutate_json(scene.random, _json(scene.assets / name))
    else:
        name = 'net-int8.params'
        mutated = mutate_bytes(scene.random, _bytes(scene.assets / name), HEADER_BYTES)
    scene.write(name, mutated)
    files = dict(description['files'])
    if scene.random.random() < 0.8:
        files[name] = hashlib.sha256(mutated).hexdigest()
    scene.write('net-int8.json', as_json({**description, 'files': files}))
    return (*PREDICT, '--load', 'net-int8')


def sweep(scene):
    """A file of benchmark.py, which resumes it or for which report.py mistakes it."""
    scene.write('sweep.json', mutate_json(scene.random, _json(scene.assets / 'sweep.json')))
    if scene.random.random() < 0.5:
        return (*BENCHMARK, '-o', 'sweep.json')
    return _report_command(scene, 'sweep.json')


def report(scene):
    """A report.json."""
    scene.write('report.json', mutate_json(scene.random, _json(scene.assets / 'net/report.json')))
    return _report_command(scene, 'report.json')


def _report_command(scene, name):
    commands = [('show', name)] * 6 + [('check', name, 'train.loss<3')] * 3 + [('compare', name, name)] * 4
    return ('report.py', *scene.random.choice([*commands, ('plot', name, '-o', 'curves.png')]))


def records(scene, names=('val.rec', 'val.idx', 'classes.txt', 'train.rec', 'train.idx')):
    """A record file, its index, or the names of its classes."""
    all_names = ('train.rec', 'train.idx', 'val.rec', 'val.idx', 'classes.txt')
    scene.link(*(f'data/{name}' for name in all_names), under='data')
    name = scene.random.choice(names)
    scene.write(f'data/{name}', mutate_bytes(scene.random, _bytes(scene.assets / 'data' / name)))
    if scene.random.random() < 0.6:
        return ('scripts/check_dataset.py', 'data', '--threads', '2')
    split = scene.random.choice(('train', 'val'))
    data = ('--data-train', 'data/train.rec', '--data-val', 'data/val.rec', '--data-val-resize', '32')
    reading = ('--data-backend', 'mxnet', '--batch-size', '4', '--test-io', '--test-io-mode', split)
    return ('train.py', *NETWORK, *data, *reading, '--workspace', 'run')


def images(scene):
    """Images that are classified, together with an intact one."""
    scene.link_image()
    (scene.folder / 'images').mkdir()
    os.link(scene.folder / 'image.jpg', scene.folder / 'images/intact.jpg')
    scene.link('net/model_0001.params')
    for number in range(scene.random.choice((1, 2))):
        suffix = scene.random.choice(('jpg', 'png'))
        source = scene.assets / f'tree/val/class0/{("jpg", "png").index(suffix)}.{suffix}'
        scene.write(f'images/{number}.{suffix}', mutate_bytes(scene.random, _bytes(source)))
    return (*PREDICT, '--load', 'model_0001.params', '--data-pred', 'images')


def packing(scene):
    """The state of an interrupted packing."""
    shutil.copytree(scene.assets / '.out.partial', scene.folder / '.out.partial')
    state = _json(scene.assets / '.out.partial/state.json')
    scene.write('.out.partial/state.json', mutate_json(scene.random, state))
    return ('scripts/prepare_dataset.py', scene.assets / 'tree', 'out', '--threads', '2')


def tfrecords(scene):
    """ImageNet in TFRecords: a mutated file, or a mutated Example with the right checksums."""
    from helpers.tfrecords import record

    for prefix in ('train', 'validation'):
        examples = list(_examples(scene.assets))
        if scene.random.random() < 0.7:
            number = scene.random.randrange(len(examples))
            examples[number] = mutate_bytes(scene.random, examples[number])
        content = b''.join(map(record, examples))
        is_mutated = scene.random.random() < 0.3
        scene.write(f'raw/{prefix}-00000-of-00001', mutate_bytes(scene.random, content) if is_mutated else content)
    return ('scripts/prepare_dataset.py', 'raw', 'out', '--threads', '2')


@lru_cache(maxsize=None)
def _examples(assets):
    from helpers.tfrecords import imagenet_example

    paths = [assets / 'tree/val' / f'class{label}' / '0.jpg' for label in range(2)]
    return [imagenet_example(path, label, path.parent.name.encode()) for label, path in enumerate(paths, 1)]


def archives(scene):
    """ImageNet's archives: one of them, the archive of a class, or a file of the development kit is mutated."""
    from helpers.imagenet_archives import meta, tar_of

    def mutated(content, share=0.2):
        return mutate_bytes(scene.random, content) if scene.random.random() < share else content

    folders = [scene.assets / 'tree/val' / f'class{label}' for label in range(2)]
    classes = {folder.name: {f'{folder.name}.jpg': _bytes(folder / '0.jpg')} for folder in folders}
    train = tar_of({f'{name}.tar': mutated(tar_of(files)) for name, files in classes.items()})
    val = tar_of({name: image for files in classes.values() for name, image in files.items()})
    data = 'ILSVRC2012_devkit_t12/data'
    devkit = {
        f'{data}/meta.mat': mutated(meta(dict.fromkeys(classes, 'words'), scene.random.random() < 0.5)),
        f'{data}/ILSVRC2012_validation_ground_truth.txt': mutated(b'1\n2\n', 0.1),
    }
    scene.write('raw/ILSVRC2012_img_train.tar', mutated(train))
    scene.write('raw/ILSVRC2012_img_val.tar', mutated(val))
    scene.write('raw/ILSVRC2012_devkit_t12.tar.gz', mutated(gzip.compress(mutated(tar_of(devkit)), mtime=0), 0.1))
    return ('scripts/prepare_dataset.py', 'raw', 'out', '--threads', '2')


def options(base, scene):
    """Options of a program, after a command that is right."""
    program, *command = base
    scene.link('net/report.json', 'net/model_0001.params', 'sweep.json')
    scene.link('data/train.rec', 'data/train.idx', 'data/val.rec', 'data/val.idx', under='data')
    scene.write('self.args', b'@self.args\n--seed 1')
    scene.write('binary.args', bytes(range(256)) * 10)
    scene.write('quote.args', b'--seed "1')
    scene.write('large.args', b'--seed 1\n' * 200_000)
    recipes = [f'@{name}' for name in ('self.args', 'binary.args', 'quote.args', 'large.args', 'none.args', 'data', '')]
    names = ['report.json', 'sweep.json', 'model_0001.params', 'data', 'data/val.rec', 'report.json/x', 'new', *recipes]
    known = scene.options_of(program)
    for _ in range(scene.random.choice((1, 1, 1, 2, 3))):
        kind = scene.random.random()
        if kind < 0.1 and command:
            command[scene.random.randrange(len(command))] = hostile_value(scene.random, names)
        elif kind < 0.15:
            command.insert(scene.random.randrange(len(command) + 1), hostile_value(scene.random, names))
        elif known:
            command += [scene.random.choice(known), hostile_value(scene.random, names)]
    return (program, *command)


COMMANDS = {
    'train': ('train.py', *NETWORK, *SYNTHETIC, '--workspace', 'run', '--check-only'),
    'runner': ('runner', '--data-backend', 'synthetic', '--dry-run'),
    'benchmark': (*BENCHMARK, '-n', '1'),
    'report': ('report.py', 'check', 'report.json', 'train.loss<3'),
    'plot': ('report.py', 'plot', 'report.json', '-o', 'curves.png'),
    'models': ('models.py', '--summary', '--num-layers', '18', '--image-shape', '3,32,32'),
    'average_checkpoints': (*AVERAGE, 'model_0001.params', 'model_0001.params'),
    'check_dataset': ('scripts/check_dataset.py', 'data'),
    'prepare_dataset': ('scripts/prepare_dataset.py', 'data', 'out'),
    'show_batch': (
        'scripts/show_batch.py',
        '--data-root',
        'data',
        '--data-backend',
        'mxnet',
        '--image-shape',
        '3,32,32',
    ),
}
KINDS = {
    'params': params,
    'safetensors': safetensors,
    'pytorch': pytorch,
    'symbol': symbol,
    'manifest': manifest,
    'int8': int8,
    'sweep': sweep,
    'report': report,
    'records': records,
    'images': images,
    'packing': packing,
    'tfrecords': tfrecords,
    'archives': archives,
    **{f'{name} options': partial(options, command) for name, command in COMMANDS.items()},
}
# In these proportions, the mutations of a run are divided.
WEIGHTS = {**dict.fromkeys(KINDS, 1), 'params': 3, 'manifest': 2, 'train options': 4, 'runner options': 3, 'report': 3}
