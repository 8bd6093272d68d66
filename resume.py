"""Going on where a run was stopped: all that it needs, saved so that a kill at any moment leaves a whole checkpoint.

A checkpoint is a manifest, `PREFIX_resume.json`, and the parts that it names with their SHA-256: parameters, the state
of the optimizer with its float32 master weights, averaged parameters. Parts are canonical arrays (see checkpoint.py),
so that a run goes on in another layout, too. New parts are written under new names, then the manifest is replaced, then
the old parts are removed: whenever that stops, the manifest names whole files.

All random numbers follow from the seed, the epoch, the step and the rank, so the seed in the manifest is the random
state.
"""

import copy
import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import distributed
from checkpoint import (
    canonical_arrays,
    from_canonical,
    named_parameters,
    read_arrays,
    set_canonical,
    to_canonical,
    write_arrays,
)
from compat import mx
from errors import UserError
from files import BackgroundWriter, file_sha256, write_atomically
from optimization import FixedScale

FORMAT = 1
# What a checkpoint cannot change: the network's parameters or the optimizer's state would not fit.
FIXED_OPTIONS = ('arch', 'num_layers', 'num_groups', 'num_classes', 'optimizer', 'dtype', 'ema_decay', 'amp')
# Counters that optimizers keep beside their arrays.
OPTIMIZER_COUNTERS = ('num_update', 'm_schedule')


def add_checkpoint_args(parser):
    group = parser.add_argument_group('Checkpoints')
    group.add_argument('--load', help='a .params file to start from, to validate or to predict with')
    group.add_argument(
        '--no-resume',
        action='store_true',
        help='start over in a new folder of the workspace, and do not go on from the checkpoint there',
    )
    group.add_argument('--model-prefix', default='model', help="start of the checkpoints' names (default: %(default)s)")
    group.add_argument(
        '--save-frequency',
        type=int,
        default=-1,
        help='-1: save the best network, and what it takes to go on; n: also every n epochs; 0: save nothing '
        '(default: %(default)s)',
    )
    return group


def check_checkpoint_args(args):
    """Raises `UserError` for options that mean nothing."""
    if args.save_frequency < -1:
        raise UserError(f'--save-frequency {args.save_frequency}: needed is -1, 0 or the number of epochs between two')


@dataclass
class Progress:
    """How far a run is: the manifest's content beside its parts.

    Attributes:
        epoch: epochs that are finished, validation included.
        iteration: steps of the next epoch that are done.
        sums: what these steps add to that epoch's metrics, over all processes; see metrics.py.
        latencies, seconds: of these steps, on rank 0.
        communication: what a `CommunicationTimer` has measured: its seconds, and those of the updates.
        best_top1: the best accuracies so far, by name of the network's form ('val', 'ema').
        metrics: the report's, of finished epochs.
        duration: seconds of all sessions.
        time_to_accuracy: of the report; None while it is not reached.
        is_finished: whether nothing is left to do.
    """

    seed: int
    options: dict
    epoch: int = 0
    iteration: int = 0
    sums: list = field(default_factory=list)
    latencies: list = field(default_factory=list)
    seconds: float = 0.0
    communication: list = field(default_factory=lambda: [0.0, 0.0])
    best_top1: dict = field(default_factory=dict)
    metrics: dict = field(default_factory=dict)
    duration: float = 0.0
    time_to_accuracy: dict = None
    is_finished: bool = False
    optimizer: dict = field(default_factory=dict)
    loss_scale: dict = field(default_factory=dict)
    average_updates: int = 0


def manifest_path(workspace, prefix):
    return Path(workspace) / f'{prefix}_resume.json'


def read_manifest(path):
    """(`Progress`, parts) of a checkpoint, after comparing each part with its checksum; None where there is none.

    Raises:
        UserError: it is damaged.
    """
    if not path.exists():
        return None
    advice = 'restore it, or start over with --no-resume'
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        parts = content.pop('parts')
        if content.pop('format') != FORMAT:
            raise UserError(f'{path}: the checkpoint of another version of this package; {advice}')
        progress = Progress(**content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f'{path}: this checkpoint is damaged ({type(error).__name__}: {error}); {advice}') from None
    for part in parts.values():
        file = path.parent / part['file']
        if not file.is_file():
            raise UserError(f'{file}: this part of the checkpoint {path} is missing; {advice}')
        if file_sha256(file) != part['sha256']:
            raise UserError(f'{file}: this part of the checkpoint {path} is damaged (its SHA-256 differs); {advice}')
    return progress, {name: path.parent / part['file'] for name, part in parts.items()}


def write_checkpoint(path, progress, parts):
    """Writes a checkpoint in place of the one that is there.

    Args:
        path: of the manifest.
        parts: arrays by name, by name of the part.

    Raises:
        UserError: it cannot be written; the old one is whole.
    """
    stem = path.name[: -len('.json')]
    files = {name: path.parent / f'{stem}_{progress.epoch:04}_{progress.iteration:06}_{name}.params' for name in parts}
    for name, arrays in parts.items():
        write_arrays(files[name], arrays)
    described = {name: {'file': file.name, 'sha256': file_sha256(file)} for name, file in files.items()}
    text = json.dumps({'format': FORMAT, **asdict(progress), 'parts': described}) + '\n'
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding='utf-8'))
    for file in path.parent.glob(f'{stem}_*.params'):
        if file not in files.values():
            file.unlink()


def snapshot(net, step):
    """Copies of all arrays of a checkpoint, by part. MXNet makes them when it comes to it: this waits for nothing."""
    parts = {'parameters': canonical_arrays(net), 'optimizer': _optimizer_arrays(net, step.trainer)}
    if step.average is not None:
        parts['average'] = average_arrays(net, step.average)
    return {name: arrays for name, arrays in parts.items() if arrays}


def average_arrays(net, average):
    """The averaged parameters in canonical form."""
    names = _canonical_names(net)
    return {names[name]: to_canonical(names[name], array, net.weight_layout) for name, array in average.arrays.items()}


def _canonical_names(net):
    return {param.name: name for name, param in named_parameters(net).items()}


def _leaves(state):
    """The arrays in an optimizer's state of one parameter, which may be nested tuples with holes."""
    if isinstance(state, (tuple, list)):
        for part in state:
            yield from _leaves(part)
    elif state is not None:
        yield state


def _optimizer_arrays(net, trainer):
    """State arrays of the first device as 'features.0.weight:0'; those of the parameter's shape in canonical form."""
    names, arrays = _canonical_names(net), {}
    states = trainer._updaters[0].states if getattr(trainer, '_updaters', None) else {}
    for index, state in states.items():
        param = trainer._params[index]
        name = names[param.name]
        for number, leaf in enumerate(_leaves(state)):
            is_like_param = leaf.shape == param.shape
            value = to_canonical(name, leaf, net.weight_layout) if is_like_param else leaf.astype('float32')
            arrays[f'{name}:{number}'] = value.as_in_context(mx.cpu())
    return arrays


def counters(optimizer):
    """The numbers that an optimizer keeps beside its arrays."""
    return {name: getattr(optimizer, name) for name in OPTIMIZER_COUNTERS if hasattr(optimizer, name)}


def restore(net, step, progress, files, path):
    """Sets network, optimizer and averages to a checkpoint, on all processes alike.

    Args:
        files: of the parts, on rank 0; None on the others, which are given what is in them.
        path: of the manifest, for messages.

    Raises:
        UserError: a part is of another network.
    """
    parts = None if files is None else {name: read_arrays(file) for name, file in files.items()}
    is_reader = parts is not None
    if is_reader:
        set_canonical(net, parts['parameters'])
    distributed.broadcast(net.collect_params())
    _restore_optimizer(net, step.trainer, progress, parts and parts.get('optimizer', {}), path)
    if step.average is not None:
        names = _canonical_names(net)
        for name, array in step.average.arrays.items():
            if is_reader:
                value = from_canonical(names[name], parts['average'][names[name]], net)
                value.as_in_context(array.context).copyto(array)
        distributed.broadcast(step.average.arrays)
        step.average.updates = progress.average_updates
    for name, value in progress.loss_scale.items():
        setattr(step.loss_scale, name, value)


def _restore_optimizer(net, trainer, progress, arrays, path):
    # Before its first update, a run has no state.
    if not progress.optimizer.get('num_update'):
        return
    optimizer = trainer.optimizer
    for name, value in progress.optimizer.items():
        setattr(optimizer, name, value)
    names = _canonical_names(net)
    trained = [(index, param) for index, param in enumerate(trainer._params) if param.grad_req != 'null']
    for device, updater in enumerate(trainer._updaters):
        optimizer._set_current_context(device)
        filled = {}
        for index, param in trained:
            weight, name = param.list_data()[device], names[param.name]
            state = optimizer.create_state_multi_precision(index, weight)
            for number, leaf in enumerate(_leaves(state)):
                key = f'{name}:{number}'
                if arrays is not None:
                    _fill(leaf, param, name, key, arrays, net, path)
                filled[key] = leaf
            updater.states[index], updater.states_synced[index] = state, True
            optimizer._index_update_count[index] = optimizer.num_update
        distributed.broadcast(filled)


def _fill(leaf, param, name, key, arrays, net, path):
    if key not in arrays:
        raise UserError(f'{path}: has no {key}, which --optimizer needs; start over with --no-resume')
    value = from_canonical(name, arrays[key], net) if leaf.shape == param.shape else arrays[key]
    value.astype(leaf.dtype).as_in_context(leaf.context).copyto(leaf)


def check_same_start(net, step, progress):
    """Makes sure that all processes start from the same numbers: all arrays, counters, loss scale and seed.

    Raises:
        UserError: they do not; it names the first array that differs.
    """
    if distributed.size() == 1:
        return
    digests = {
        f'{name} ({part})': hashlib.sha256(array.asnumpy().tobytes()).hexdigest()[:16]
        for part, arrays in snapshot(net, step).items()
        for name, array in arrays.items()
    }
    numbers = {
        'the seed': progress.seed,
        'the loss scale': step.loss_scale.value,
        **{f"the optimizer's {name}": value for name, value in counters(step.trainer.optimizer).items()},
    }
    whole = hashlib.sha256(json.dumps([digests, numbers]).encode()).hexdigest()
    # The digests of all arrays are only sent round where there is something to find.
    if len(set(distributed.gather_json(whole))) > 1:
        distributed.check_alike({**digests, **numbers}, 'the start or the resume of this run has gone wrong')


def check_options(progress, args, path):
    """Compares a run's options with its checkpoint's.

    Returns:
        Those that differ without harm, as texts.

    Raises:
        UserError: some contradict the checkpoint.
    """

    def differences(names):
        return [
            f'--{name.replace("_", "-")} {getattr(args, name)} instead of {progress.options[name]}'
            for name in names
            if progress.options.get(name) != _as_json(getattr(args, name))
        ]

    contradictions = differences(FIXED_OPTIONS)
    if contradictions:
        raise UserError(
            f'{path}: the checkpoint of a run with other options ({"; ".join(contradictions)}); '
            'use its options, another --workspace, or --no-resume'
        )
    return differences(name for name in progress.options if name not in FIXED_OPTIONS and hasattr(args, name))


def change_batch_size(progress, args):
    """Has an epoch that was begun go on after as many examples, in steps of another size."""
    examples = progress.iteration * progress.options['batch_size']
    progress.iteration = examples // args.batch_size // args.grad_accum_steps * args.grad_accum_steps


def _as_json(value):
    return json.loads(json.dumps(value, default=str))


def saved_options(args):
    """The options that a checkpoint remembers: those that shape the numbers."""
    return {name: _as_json(getattr(args, name)) for name in sorted(REMEMBERED_OPTIONS)}


REMEMBERED_OPTIONS = {
    *FIXED_OPTIONS,
    *('batch_size', 'num_epochs', 'lr', 'lr_schedule', 'lr_steps', 'lr_factor', 'warmup_epochs', 'mom', 'wd'),
    *('label_smoothing', 'mixup', 'grad_accum_steps', 'grad_clip_norm', 'data_backend', 'image_shape', 'num_examples'),
}


class RunCheckpoints:
    """What a run saves: its best networks, those of every so many epochs, and what it needs to go on.

    Everything is written in the background, by rank 0.

    Args:
        say: a function that is given a line about each file.
    """

    def __init__(self, args, say):
        self._args = args
        self._say = say
        self._manifest = manifest_path(args.workspace, args.model_prefix)
        self._writer = BackgroundWriter()
        self._is_writer = distributed.rank() == 0 and args.save_frequency != 0

    def save(self, net, step, progress, due=None):
        """Saves the run's state, and parameters under further names, without waiting for it.

        Args:
            due: name of a file to 'val' for the parameters, or 'ema' for the averaged ones.

        Raises:
            UserError: what was saved before could not be written.
        """
        if not self._is_writer:
            return
        progress.optimizer = counters(step.trainer.optimizer)
        progress.loss_scale = {} if isinstance(step.loss_scale, FixedScale) else vars(step.loss_scale).copy()
        progress.average_updates = step.average.updates if step.average is not None else 0
        parts, progress = snapshot(net, step), copy.deepcopy(progress)
        forms = {'val': parts['parameters'], 'ema': parts.get('average')}

        def write():
            for name, form in (due or {}).items():
                write_arrays(self._args.workspace / name, forms[form])
                self._say(f'saved {self._args.workspace / name}')
            write_checkpoint(self._manifest, progress, parts)

        self._writer.submit(write)

    def wait(self):
        """Returns when all is on the disk; raises as `save` does."""
        self._writer.wait()

    def files_due(self, best_top1, results, epochs_done, is_last):
        """Which parameter files an epoch makes, as `save` takes them. Keeps `best_top1` up to date.

        A run that does not validate keeps its last network, for it cannot tell its best.
        """
        args, due = self._args, {}
        forms = {'val': ''} if args.ema_decay is None else {'val': '', 'ema': '_ema'}
        for form, suffix in forms.items():
            top1 = results[form]['top1'] if form in results else None
            if top1 is not None and top1 > best_top1.get(form, -1):
                best_top1[form] = top1
                due[f'{args.model_prefix}{suffix}_best.params'] = form
            is_periodic = args.save_frequency > 0 and epochs_done % args.save_frequency == 0
            if is_periodic or (is_last and top1 is None):
                due[f'{args.model_prefix}{suffix}_{epochs_done:04}.params'] = form
        return due


def find_checkpoint(args):
    """The checkpoint that a run goes on from, the same on all processes.

    Returns:
        (`Progress`, files of the parts) or None; the files are of use on rank 0 alone.

    Raises:
        UserError: it is damaged, or of a run with other options.
    """
    path = manifest_path(args.workspace, args.model_prefix)
    found = read_manifest(path) if distributed.rank() == 0 else None
    content = distributed.broadcast_json(asdict(found[0]) if found else None)
    if content is None:
        return None
    return Progress(**content), (found[1] if found else None)


def remove_leftovers(args):
    """Removes what a killed run was writing: temporary files, and parts that no manifest names yet."""
    stem = f'{args.model_prefix}_resume'
    for path in args.workspace.glob(f'.{args.model_prefix}_*'):
        path.unlink()
    manifest = manifest_path(args.workspace, args.model_prefix)
    if not manifest.exists():
        for path in args.workspace.glob(f'{stem}_*.params'):
            path.unlink()
