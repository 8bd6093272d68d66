"""The manifest of a checkpoint: the progress of a run, and the files that belong to it."""

import glob
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from imagenet.checkpoints.description import INTERPOLATION_BEFORE
from imagenet.checkpoints.parameters import write_arrays
from imagenet.common.errors import UserError
from imagenet.common.files import file_sha256, remove_leftovers, write_atomically
from imagenet.reporting.json_files import read_json

FORMAT = 1
SCHEMA = Path(__file__).resolve().with_name('manifest_schema.json')
# Those of versions that do not record them.
OPTIONS_BEFORE = {
    'interpolation': INTERPOLATION_BEFORE,
    'freeze': 'none',
    'lr_mult_features': 1,
    'cutmix': 0,
    'mix_switch_prob': 0.5,
    'mixup_off_epoch': 0,
    'random_erasing': 0,
    'bce_loss': False,
    'bce_target_threshold': None,
}
ADVICE = 'restore it, or start over with --no-resume'


@dataclass
class TrainingProgress:
    """The progress of a run: everything in the manifest except its parts.

    Attributes:
        epoch: finished epochs, validation included.
        iteration: finished steps of the next epoch.
        batch_size: images in each of these steps, over all ranks; None in checkpoints of versions in which it is the
            option `batch_size`.
        sums: what these steps add to that epoch's metrics, over all processes; see metrics.py.
        latencies, seconds: of these steps, on rank 0.
        communication: `seconds` and `update_seconds` of a `CommunicationTimer`.
        best_top1: the best accuracies so far, by name of the network's form ('val', 'ema').
        metrics: the report's metrics of finished epochs.
        duration: seconds of all sessions.
        time_to_accuracy: the report's entry; None until the accuracy is reached.
        is_finished: whether nothing is left to do.
    """

    seed: int
    options: dict
    epoch: int = 0
    iteration: int = 0
    batch_size: int = None
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

    def start_next_epoch(self):
        """Count the epoch as finished, and reset the sums of its steps."""
        self.epoch, self.iteration = self.epoch + 1, 0
        self.sums, self.latencies, self.seconds, self.communication = [], [], 0.0, [0.0, 0.0]


def manifest_path(workspace, prefix):
    return Path(workspace) / f'{prefix}_resume.json'


def read_manifest(path):
    """Return (`TrainingProgress`, parts) of a checkpoint whose parts match their checksums; None if there is none.

    Raises:
        UserError: the checkpoint is damaged.
    """
    if not path.exists():
        return None
    content = read_json(path, SCHEMA, 'a checkpoint', advice=ADVICE)
    parts = content.pop('parts')
    del content['format']
    content['options'] = {**OPTIONS_BEFORE, **content['options']}
    return TrainingProgress(**content), {name: _check_part(path, **part) for name, part in parts.items()}


def _check_part(manifest, file, sha256):
    """Return the path of a part.

    Raises:
        UserError: it is missing or damaged.
    """
    path = manifest.parent / file
    problem = f'{path}: this part of the checkpoint {manifest} is'
    try:
        found = file_sha256(path)
    except OSError as error:
        raise UserError(f'{problem} missing ({error.strerror}); {ADVICE}') from None
    if found != sha256:
        raise UserError(f'{problem} damaged (its SHA-256 differs); {ADVICE}')
    return path


def write_checkpoint(path, progress, parts):
    """Write a checkpoint that replaces the previous one.

    Args:
        path: path of the manifest.
        parts: for each part by name, its arrays by name.

    Raises:
        UserError: the checkpoint cannot be written; the previous one is intact.
    """
    stem = path.name[: -len('.json')]
    files = {name: path.parent / f'{stem}_{progress.epoch:04}_{progress.iteration:06}_{name}.params' for name in parts}
    for name, arrays in parts.items():
        write_arrays(files[name], arrays)
    described = {name: {'file': file.name, 'sha256': file_sha256(file)} for name, file in files.items()}
    text = json.dumps({'format': FORMAT, **asdict(progress), 'parts': described}) + '\n'
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding='utf-8'))
    for file in path.parent.glob(f'{glob.escape(stem)}_*.params'):
        if file not in files.values():
            file.unlink()


def remove_unfinished_checkpoint(workspace, prefix):
    """Remove what a killed run was writing: temporary files, and parts that no manifest names yet."""
    stem = glob.escape(f'{prefix}_resume')
    remove_leftovers(workspace, f'{glob.escape(prefix)}_*')
    manifest = manifest_path(workspace, prefix)
    if not manifest.exists():
        for path in workspace.glob(f'{stem}_*.params'):
            path.unlink()
