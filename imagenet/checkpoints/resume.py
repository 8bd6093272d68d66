"""Finding the checkpoint to resume from, and comparing its options with the run's."""

import json
from dataclasses import asdict

from imagenet.checkpoints.manifest import Progress, manifest_path, read_manifest
from imagenet.common.errors import UserError
from imagenet.runtime import distributed

# What a checkpoint cannot change: the network's parameters or the optimizer's state would not fit.
FIXED_OPTIONS = ('arch', 'num_layers', 'num_groups', 'num_classes', 'optimizer', 'dtype', 'ema_decay', 'amp')


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


def check_resumed(args, progress):
    """Compares the options with those of the checkpoint, and takes its seed where none was given.

    Returns:
        Lines for the log.
    """
    path = manifest_path(args.workspace, args.model_prefix)
    different = check_options(progress, args, path)
    if args.seed is None:
        args.seed = progress.seed
    elif args.seed != progress.seed:
        different.append(f'--seed {args.seed} instead of {progress.seed}')
    notes = [
        f'going on from {path}: {progress.epoch} of {args.num_epochs} epochs and {progress.iteration} steps are done'
    ]
    if progress.iteration and args.batch_size != progress.options['batch_size']:
        change_batch_size(progress, args)
        notes.append(f'of this epoch, as many examples are done as in {progress.iteration} steps of the new batch size')
    if args.load is not None:
        notes.append(f'--load {args.load} is not used: the checkpoint has parameters')
    if different:
        notes.append(f'options that differ from the checkpoint: {"; ".join(different)}')
    return notes


def describe_checkpoint(args):
    path = manifest_path(args.workspace, args.model_prefix)
    return f'the same command goes on from {path}' if path.exists() else 'no checkpoint was saved yet'
