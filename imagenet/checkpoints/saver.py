"""Resuming a run: checkpoints that stay consistent if the process is killed at any time.

A checkpoint is a manifest, `PREFIX_resume.json`, and the parts that it names with their SHA-256: parameters, the state
of the optimizer with its float32 master weights, averaged parameters. Parts are canonical arrays (see parameters.py),
so that a run can resume in another layout. New parts are written under new names, then the manifest is replaced, then
the old parts are removed. The manifest names complete files at any time.

All random numbers are derived from the seed, the epoch, the step and the rank, so the seed in the manifest is the
complete random state.
"""

import copy
from dataclasses import dataclass
from pathlib import Path

from imagenet.checkpoints.loading import LoadedNetwork
from imagenet.checkpoints.local_statistics import PART as STATISTICS
from imagenet.checkpoints.manifest import manifest_path, write_checkpoint
from imagenet.checkpoints.parameters import write_arrays
from imagenet.checkpoints.training_state import counters, snapshot
from imagenet.common.files import BackgroundWriter
from imagenet.common.options import integer
from imagenet.runtime import distributed


def add_checkpoint_args(parser):
    group = parser.add_argument_group('Checkpoints')
    group.add_argument(
        '--load',
        type=LoadedNetwork.of,
        help='a file of weights to start from, to validate or to predict with: .params of this package, GluonCV or '
        "MXNet's model zoo, .safetensors or .pth of timm or torchvision; --mode val also compares the networks that a "
        "pattern in quotes matches, such as 'runs/*/model_best.params'",
    )
    group.add_argument(
        '--finetune',
        action='store_true',
        help='train the network of --load for the classes of the data set: its output layer is replaced by a new one',
    )
    group.add_argument(
        '--no-resume',
        action='store_true',
        help='start over in a new folder of the workspace instead of resuming from the checkpoint there',
    )
    group.add_argument('--model-prefix', default='model', help="start of the checkpoints' names (default: %(default)s)")
    group.add_argument(
        '--save-frequency',
        type=integer(at_least=-1),
        default=-1,
        help='-1: save the best network, and everything needed to resume; n: also every n epochs; 0: save nothing '
        '(default: %(default)s)',
    )
    return group


@dataclass(frozen=True)
class SaverOptions:
    """The options of the same names."""

    workspace: Path
    model_prefix: str
    save_frequency: int
    ema_decay: float


class CheckpointSaver:
    """Writer of the best networks, of one every `save_frequency` epochs, and of everything needed to resume.

    Rank 0 writes in the background, until the end of a `with` block.

    Args:
        options: `SaverOptions`.
        description: what the files of networks say about them; see description.py.
        announce: a function that is called with a line about each file.
    """

    def __init__(self, options, description, announce):
        self._options = options
        self._description = description
        self._announce = announce
        self._manifest = manifest_path(options.workspace, options.model_prefix)
        self._writer = BackgroundWriter()
        self._is_writer = distributed.rank() == 0 and options.save_frequency != 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._writer.__exit__(*error)

    def save(self, net, step, progress, due=None, statistics=None):
        """Save the run's state, and parameters in additional files, without waiting for the disk.

        Args:
            statistics: the result of `gather_statistics`, within an epoch.
            due: the additional files by name; each is 'val' for the parameters or 'ema' for the averaged ones.

        Raises:
            UserError: an earlier save failed.
        """
        if not self._is_writer:
            return
        progress.optimizer = counters(step.trainer.optimizer)
        progress.loss_scale = step.loss_scale.state()
        progress.average_updates = step.average.updates if step.average is not None else 0
        parts, progress = snapshot(net, step), copy.deepcopy(progress)
        if statistics:
            parts[STATISTICS] = statistics
        forms = {'val': parts['parameters'], 'ema': parts.get('average')}

        def write():
            for name, form in (due or {}).items():
                write_arrays(self._options.workspace / name, forms[form], self._description)
                self._announce(f'saved {self._options.workspace / name}')
            write_checkpoint(self._manifest, progress, parts)

        self._writer.submit(write)

    def wait(self):
        """Return when everything is written. Raise the same errors as `save`."""
        self._writer.wait()

    def files_due(self, best_top1, results, epochs_done, is_last):
        """Return the parameter files that are due after an epoch, as `save` takes them. Update `best_top1`.

        A run without validation keeps its last network, because its best one is unknown.
        """
        options, due = self._options, {}
        forms = {'val': ''} if options.ema_decay is None else {'val': '', 'ema': '_ema'}
        for form, suffix in forms.items():
            top1 = results[form]['top1'] if form in results else None
            if top1 is not None and top1 > best_top1.get(form, -1):
                best_top1[form] = top1
                due[f'{options.model_prefix}{suffix}_best.params'] = form
            is_periodic = options.save_frequency > 0 and epochs_done % options.save_frequency == 0
            if is_periodic or (is_last and top1 is None):
                due[f'{options.model_prefix}{suffix}_{epochs_done:04}.params'] = form
        return due
