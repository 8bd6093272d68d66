"""Finding the checkpoint to resume from, and comparing its options with the run's.

Options are passed as a mapping, because a checkpoint stores options of many modules.
"""

from dataclasses import asdict

from imagenet.checkpoints.manifest import TrainingProgress, read_manifest
from imagenet.common.errors import UserError
from imagenet.common.options import as_json, as_text, option_name
from imagenet.runtime import distributed

# These must equal the checkpoint's: otherwise the network's parameters or the optimizer's state would not fit.
FIXED_OPTIONS = ('arch', 'num_layers', 'num_groups', 'num_classes', 'optimizer', 'dtype', 'ema_decay', 'amp', 'freeze')
REMEMBERED_OPTIONS = {
    *FIXED_OPTIONS,
    *('batch_size', 'num_epochs', 'lr', 'lr_schedule', 'lr_steps', 'lr_factor', 'warmup_epochs', 'mom', 'wd'),
    *('lr_decay_rate', 'lr_decay_epochs', 'lr_decay_from', 'lr_points', 'min_lr', 'cooldown_epochs'),
    *('label_smoothing', 'mixup', 'grad_accum_steps', 'grad_clip_norm', 'data_backend', 'image_shape', 'num_examples'),
    *('interpolation', 'padding', 'batchnorm_eps', 'batchnorm_mom', 'drop_connect', 'dropout'),
    *('image_sizes', 'stages', 'base_image_size', 'stage_batch_sizes', 'stage_magnitudes', 'val_image_size'),
    *('lr_mult_features', 'optimizer_eps', 'mean_square_decay', 'mean_square_start', 'wd_exclude', 'ema_warmup'),
    *('cutmix', 'mix_switch_prob', 'mixup_off_epoch', 'random_erasing', 'bce_loss', 'bce_target_threshold'),
    *('auto_augment', 'randaugment_layers', 'randaugment_magnitude', 'repeated_augmentation'),
}


def find_checkpoint(path):
    """Return the checkpoint that a run resumes from, the same on all ranks.

    Args:
        path: path of its manifest.

    Returns:
        (`TrainingProgress`, files of the parts), or None if there is no checkpoint. The files are None on ranks other
        than 0.

    Raises:
        UserError: the checkpoint is damaged.
    """
    found = read_manifest(path) if distributed.rank() == 0 else None
    content = distributed.broadcast_json(asdict(found[0]) if found else None)
    if content is None:
        return None
    return TrainingProgress(**content), (found[1] if found else None)


def saved_options(options):
    """Return the options that a checkpoint stores: the ones that affect the results."""
    return {name: as_json(options[name]) for name in sorted(REMEMBERED_OPTIONS)}


def options_to_keep(progress):
    """Return the options that a checkpoint gives if they are left out, by name."""
    return {'seed': progress.seed, 'interpolation': progress.options['interpolation']}


def compare_options(progress, options, path):
    """Compare a run's options with its checkpoint's.

    Returns:
        Descriptions of the options that differ without harm.

    Raises:
        UserError: options contradict the checkpoint.
    """

    def differences(names):
        return [
            f'{option_name(name)} {as_text(options[name])} instead of {as_text(progress.options.get(name))}'
            for name in names
            if progress.options.get(name) != as_json(options[name])
        ]

    contradictions = differences(FIXED_OPTIONS)
    if contradictions:
        raise UserError(
            f'{path}: this checkpoint is from a run with other options ({"; ".join(contradictions)}); '
            'use its options, another --workspace, or --no-resume'
        )
    different = differences(name for name in progress.options if name not in FIXED_OPTIONS and name in options)
    if options['seed'] != progress.seed:
        different.append(f'--seed {options["seed"]} instead of {progress.seed}')
    return different


def resume_with(progress, options, batch_size, path):
    """Prepare a checkpoint's progress for a run with these options.

    Args:
        batch_size: that of the run in the epoch to resume, over all ranks.

    Returns:
        Lines for the log.

    Raises:
        UserError: the options contradict the checkpoint.
    """
    different = compare_options(progress, options, path)
    notes = [
        f'resuming from {path}: {progress.epoch} of {options["num_epochs"]} epochs and {progress.iteration} steps '
        'are done'
    ]
    if progress.iteration and batch_size != batch_size_of(progress):
        change_batch_size(progress, batch_size, options['grad_accum_steps'])
        notes.append(f'in this epoch, as many examples are done as in {progress.iteration} steps of the new batch size')
    if options['load'] is not None:
        notes.append(f'--load {options["load"]} is ignored: the parameters come from the checkpoint')
    if different:
        notes.append(f'options that differ from the checkpoint: {"; ".join(different)}')
    return notes


def change_batch_size(progress, batch_size, grad_accum_steps):
    """Convert the steps done in the current epoch to another batch size, rounded down to complete updates."""
    examples = progress.iteration * batch_size_of(progress)
    progress.iteration = examples // batch_size // grad_accum_steps * grad_accum_steps


def batch_size_of(progress):
    """Return the number of images in each step that is done in the current epoch."""
    return progress.batch_size or progress.options['batch_size']


def describe_checkpoint(path):
    return f'the same command resumes from {path}' if path.exists() else 'no checkpoint was saved yet'
