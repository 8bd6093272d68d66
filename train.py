#!/usr/bin/env python3
"""The command line: options, network and data, then one function for each --mode."""

if __name__ == '__main__':
    from imagenet.common.program import start_program

    start_program('mxnet', 'cv2', 'PIL', 'tqdm', 'tabulate')

import gc
import glob
import itertools
import json
import math
import sys
from argparse import Namespace
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Optional

from dali import add_dali_args
from data import (
    INPUT_DEFAULTS,
    add_augmentation_args,
    add_data_args,
    calibration_records,
    check_data_args,
    choose_backend,
    dataset_fingerprint,
    describe_dataset,
    open_data,
    open_stages,
    with_crop_fraction,
)
from fit import Run, add_fit_args, check_fit_args, count_steps, evaluate, fit, is_finished, read_only, validate
from imagenet.architectures.identification import identify
from imagenet.architectures.registry import ARCHITECTURES, are_equal, default_options
from imagenet.checkpoints.description import FINETUNE_ADVICE, FileDescription, complete_options, read_description
from imagenet.checkpoints.loading import LoadedNetwork, count_classes, load_parameters
from imagenet.checkpoints.local_statistics import restore_statistics
from imagenet.checkpoints.manifest import TrainingProgress, manifest_path, remove_unfinished_checkpoint
from imagenet.checkpoints.resume import (
    describe_checkpoint,
    find_checkpoint,
    options_to_keep,
    resume_with,
    saved_options,
)
from imagenet.checkpoints.saver import CheckpointSaver, SaverOptions, add_checkpoint_args
from imagenet.checkpoints.training_state import check_ranks_start_equal, restore
from imagenet.common.errors import NonFiniteError, UserError, one_line_errors
from imagenet.common.files import check_new, file_sha256, remove_leftovers
from imagenet.common.modes import Mode
from imagenet.common.options import (
    ArgumentParser,
    as_json,
    as_text,
    check_utf8,
    option_name,
    pick,
    with_changes,
    with_defaults,
)
from imagenet.common.output import continue_without_output
from imagenet.common.program import run_program
from imagenet.common.wordnet import is_same_class
from imagenet.datasets.class_names import data_folders, find_class_names, first_class_names, keep_class_names
from imagenet.datasets.decoding import RGB_CHANNELS
from imagenet.datasets.real_labels import OPTION as REAL_LABELS
from imagenet.datasets.real_labels import add_real_labels_args, read_real_labels, real_top1
from imagenet.datasets.record_lists import count_listed_labels, read_listed_files
from imagenet.datasets.records import index_path
from imagenet.inference.analysis_files import Validation, add_analysis_args, check_analysis_folder, write_analysis
from imagenet.inference.calibration import (
    CalibrationImages,
    CalibrationOptions,
    add_quantization_args,
    calibrate,
    write_int8,
)
from imagenet.inference.comparison import FORMATS as COMPARISON_FORMATS
from imagenet.inference.comparison import ComparedNetwork, as_markdown, write_comparison
from imagenet.inference.engines import (
    AUTO,
    BFLOAT16,
    FLOAT32,
    MXNET,
    add_engine_args,
    as_network,
    check_dtype,
    check_installed,
    missing_packages,
)
from imagenet.inference.example_results import ExampleRows, check_table_file, write_results
from imagenet.inference.export import (
    add_export_args,
    check_export,
    export,
    images_to_compare,
    onnx_model,
)
from imagenet.inference.fused_graph import add_inference_args
from imagenet.inference.image_list import find_images
from imagenet.inference.int8_network import int8_files, read_int8_description
from imagenet.inference.metadata import NetworkDescription, describe_input, described_options
from imagenet.inference.onnx_quantization import QUANTIZER
from imagenet.inference.prediction import PredictionOptions, add_prediction_args, num_likeliest, predict
from imagenet.inference.prediction_results import Origin, counted_results, saved_results
from imagenet.inference.test_time_augmentation import FLIP, NONE, FlippingEngine, FlippingNetwork, add_tta_args
from imagenet.input_pipeline.auto_augment import add_auto_augment_args
from imagenet.input_pipeline.mxnet_backend import add_mxnet_data_args
from imagenet.input_pipeline.transforms import EvaluationOptions, InputForm
from imagenet.launcher import ranks
from imagenet.launcher.worker_env import restart_with_bound_threads
from imagenet.reporting.epoch_summary import describe_phase, epoch_summary
from imagenet.reporting.mlflow_run import check_mlflow
from imagenet.reporting.report_file import Report
from imagenet.reporting.run_log import LogOptions, RunLog, add_log_args
from imagenet.reporting.workspace import (
    check_file_names,
    folder_for_new_run,
    make_folder,
    names_beside_training,
    only_run,
)
from imagenet.runtime import distributed, processor
from imagenet.runtime.compat import mx, return_free_memory
from imagenet.runtime.devices import add_device_args, check_gpus, choose_device, choose_dtype, local_devices
from imagenet.runtime.seeds import draw_seed, seed_everything
from imagenet.runtime.system_info import describe_environment, versions
from imagenet.training.losses import LossOptions, add_loss_args, make_loss
from imagenet.training.lr_schedule import ScheduleOptions, add_schedule_args
from imagenet.training.mixing import Mixing, MixingOptions, add_mixing_args, check_pairs
from imagenet.training.optimizer import OptimizerOptions, add_optimization_args, make_optimizer
from imagenet.training.profiler import Profiler, add_profiling_args, run_operators_one_by_one
from imagenet.training.resolution_schedule import ResolutionOptions, add_resolution_args, get_stages, stage_at
from imagenet.training.step import StepOptions, TrainingStep
from imagenet.training.stop_signals import StopRequest
from imagenet.training.transfer import TransferOptions, add_transfer_args
from models import (
    DEFAULT_ARCH,
    add_model_args,
    allocate,
    build_engine,
    build_inference_model,
    build_model,
    build_unfused,
    check_arch,
    check_image_size,
    check_model,
    describe_model,
    get_model,
    model_name,
    model_options,
    resize_network,
)

# This build of MXNet counts with 32 bits.
MOST_VALUES = 2**31 - 1
# With the options of the network and of its input, they determine the results of --mode pred.
COMPUTING_OPTIONS = ('device', 'dtype', 'amp', 'no_fuse', 'engine', 'inference_dtype', 'tta', 'max_pixels')


@dataclass(frozen=True)
class Candidate:
    """One of many networks to validate.

    Attributes:
        load: the `LoadedNetwork`.
        args: the resolved options; None if there is an error.
        notes: lines for the log.
        error: why it cannot be validated; '' if it can.
    """

    load: LoadedNetwork
    args: Optional[Namespace] = None
    notes: tuple = ()
    error: str = ''

    def reason(self, error):
        """Return the message of an exception, without the name of the network."""
        return str(error).replace(f'--load {self.load}: ', '', 1)


def main():
    # Before the processes are connected, they all find the same errors, so rank 0 prints them. Later errors may differ.
    with one_line_errors(show=lambda: ranks.rank() == 0 or distributed.size() > 1):
        args = parse_args()
        check_utf8(args)
        args = with_changes(args, device=choose_device(args.device))
        if args.device == 'cpu':
            # `runner` has already done this. A plain `python train.py` should be as fast.
            restart_with_bound_threads()
        if args.mode is Mode.VAL and not args.test_io and args.load is not None and args.load.is_pattern:
            check, run = plan_comparison(args)
        else:
            check, run = plan_run(args)
        if args.check_only:
            check()
            return
        distributed.initialize(args.kv_store, args.device)
        with distributed.lost_process_errors():
            run()


def plan_run(args):
    """Return two functions: one finds the errors that only building reveals, the other one does what --mode says."""
    args, notes = resolve_args(args)
    run = run_reading if args.test_io else RUN[args.mode]
    return partial(check_by_building, args), partial(run, args, notes)


def plan_comparison(args):
    """Return the two functions of `plan_run` for a pattern of networks to validate."""
    candidates = resolve_candidates(args)
    known = next(candidate for candidate in candidates if not candidate.error)
    # A network that cannot be loaded is a row of the table.
    check = partial(check_by_building, with_changes(known.args, load=None))
    return check, partial(run_comparison, args, candidates)


def parse_args(argv=None):
    parser = ArgumentParser(description='Train, validate and apply ImageNet classifiers.')
    add_model_args(parser)
    add_fit_args(parser)
    add_checkpoint_args(parser)
    add_schedule_args(parser)
    add_resolution_args(parser)
    add_optimization_args(parser)
    add_loss_args(parser)
    add_mixing_args(parser)
    add_transfer_args(parser)
    add_device_args(parser)
    add_data_args(parser)
    add_augmentation_args(parser)
    add_auto_augment_args(parser)
    add_dali_args(parser)
    add_mxnet_data_args(parser)
    add_inference_args(parser)
    add_engine_args(parser)
    add_quantization_args(parser)
    add_export_args(parser)
    add_prediction_args(parser)
    add_tta_args(parser)
    add_analysis_args(parser)
    add_real_labels_args(parser)
    add_log_args(parser)
    add_profiling_args(parser)
    parser.add_argument('--check-only', action='store_true', help='check the options and the files, then stop')
    return parser.parse_args(argv)


def resolve_args(args):
    """Check the options, and set those that depend on the device, the data or the checkpoint.

    Returns:
        All options, and lines for the log about choices that a user may not expect.

    Raises:
        UserError: the options contradict each other, or this machine or the data does not support them.
    """
    if args.test_io:
        args = with_changes(args, mode=args.test_io_mode)
    if args.mode.is_single_process and ranks.size() > 1:
        raise UserError(f'--mode {args.mode} with {ranks.size()} processes: start only one')
    if args.device == 'gpu':
        check_gpus(max(ranks.local_size(), max(args.gpus) + 1))
    given = args
    args, notes = complete_network(args)
    if args.input_channels is not None and given.image_shape is None:
        args = with_changes(args, image_shape=(args.input_channels, *args.image_shape[1:]))
    args = with_changes(args, dtype=choose_dtype(args.device, args.dtype, args.amp))
    if args.engine != MXNET:
        args = in_exported_form(args)
    check_fit_args(args)
    check_model(args.arch, args.num_layers, args.padding, args.image_shape)
    args = with_image_sizes(args, is_resize_given=given.data_val_resize is not None)
    if args.mlflow is not None:
        check_mlflow()
    check_file_names(args.workspace, {**log_files(args), '--model-prefix': args.model_prefix})
    for options in (ScheduleOptions, OptimizerOptions, LossOptions, MixingOptions, TransferOptions):
        pick(options, args)
    check_inference_args(args)
    if args.profile is not None:
        run_operators_one_by_one()
    changes, backend_notes = choose_backend(args)
    args = with_changes(args, **changes)
    notes += [*backend_notes, *check_processor(args)]
    check_data_args(args)
    check_batch_sizes(args)
    if args.mode.needs_data:
        notes += note_of_classes(args)
        args = with_changes(args, **describe_dataset(args))
        if args.finetune:
            check_finetune(args)
        elif args.load is not None:
            check_class_names(args)
        make_folder(args.workspace, '--workspace')
        if args.analyze is not None:
            make_folder(args.analyze, '--analyze')
            check_analysis_folder(args.analyze)
        if args.mode is Mode.VAL and args.output is not None:
            check_table_file(args.output, ('.csv',), '--mode val')
        if args.real_labels is not None:
            right_classes(args.real_labels, validation_records(args), args.num_classes)
    elif args.num_classes is None:
        raise UserError(f'--load {args.load}: the number of classes is not in this file; set --num-classes')
    return args, [note for note in notes if note]


def resolve_candidates(args):
    """Resolve the options for each of the networks that the pattern of --load matches.

    Returns:
        A `Candidate` for each, in the order of their names; at least one can be validated.

    Raises:
        UserError: none can be validated, or an option has no meaning for several networks.
    """
    check_comparison_args(args)
    candidates = []
    for load in args.load.matching():
        try:
            candidates.append(Candidate(load, *resolve_args(with_changes(args, load=load, output=None))))
        except UserError as error:
            candidates.append(Candidate(load, error=Candidate(load).reason(error)))
    check_some_left(args.load, [candidate.error for candidate in candidates])
    return candidates


def check_comparison_args(args):
    """Raise `UserError` if an option has no meaning for several networks, or the table cannot be written."""
    for option in ('analyze', 'profile'):
        if getattr(args, option) is not None:
            raise UserError(f'{option_name(option)}: works with one network, and --load {args.load} may match several')
    if args.engine == AUTO and args.inference_dtype == BFLOAT16:
        # MXNet's mixed precision changes what is exported, and cannot be ended.
        raise UserError(f'--engine {AUTO} --inference-dtype {BFLOAT16}: works with one network; choose the engine')
    if args.output is not None:
        check_table_file(args.output, COMPARISON_FORMATS, 'several networks')


def check_some_left(pattern, errors):
    """Raise `UserError` if there is no network, or an error for each."""
    if not errors:
        raise UserError(f'--load {pattern}: matches no file')
    if all(errors):
        raise UserError(f'--load {pattern}: none of {len(errors)} networks can be validated; the first: {errors[0]}')


def complete_network(args):
    """Take the options of the network that were left out from the file of --load, or else from the defaults.

    A run that trains leaves out the default of --interpolation: if it resumes, it keeps that of its checkpoint.

    With --finetune, the number of classes is that of the data set.

    Returns:
        The options, and lines for the log.

    Raises:
        UserError: an option contradicts the file.
    """
    file = FileDescription() if args.load is None else describe_loaded(args.load)
    description = dict(file.known)
    if args.finetune:
        description.pop('num_classes', None)
    if 'arch' in description and are_equal(args.arch, description['arch'], description.get('num_layers')):
        description['arch'] = args.arch
    arch = args.arch or description.get('arch', DEFAULT_ARCH)
    check_arch(arch)
    defaults = {'arch': arch, **default_options(arch), **INPUT_DEFAULTS, **ARCHITECTURES[arch].image_defaults}
    defaults.update(file.assumed)
    args = with_crop_fraction(args, description.get('image_shape', defaults['image_shape']))
    if args.image_shape is not None:
        # That of the architecture goes with its own image shape.
        defaults['data_val_resize'] = INPUT_DEFAULTS['data_val_resize']
    if args.mode.trains and not args.test_io and 'interpolation' not in file.assumed:
        del defaults['interpolation']
    if args.load is None:
        is_scored = args.mode is Mode.VAL and not args.test_io
        note = 'without --load, the network has random weights: only its speed is meaningful'
        return with_defaults(args, defaults), [note] if is_scored else []
    changes, notes = complete_options(vars(args), description, args.load)
    notes += note_of_input(changes, args.load)
    assumed = {name: value for name, value in file.assumed.items() if getattr(args, name) is None}
    args = with_defaults(with_changes(args, **changes), defaults)
    if file.source is not None:
        notes.append(note_of_source(args, file.source, assumed))
    if 'arch' not in description:
        notes.append(
            f'--load {args.load} does not describe its network: assuming {model_name(args.arch, args.num_layers)}'
        )
        if args.num_classes is None and not args.finetune:
            args = with_changes(args, num_classes=count_classes(args.load.path))
    return args, notes


def with_image_sizes(args, is_resize_given):
    """Return the options with the `training_stages`, and with the image shape of validation, which may differ.

    Args:
        is_resize_given: whether --data-val-resize is set. Otherwise it is scaled with the validation images.

    Raises:
        UserError: the architecture needs larger images, or options contradict each other.
    """
    if args.stage_magnitudes and args.auto_augment != 'randaugment':
        raise UserError('--stage-magnitudes: needs --auto-augment randaugment')
    stages, channels = get_stages(pick(ResolutionOptions, args)), args.image_shape[0]
    if args.val_image_size is not None:
        shape = (channels, args.val_image_size, args.val_image_size)
        if not is_resize_given and args.crop_fraction is None:
            resize = args.data_val_resize * args.val_image_size // max(args.image_shape[1:])
            args = with_changes(args, data_val_resize=resize)
        args = with_changes(args, image_shape=shape)
        check_image_size(args.arch, f'--val-image-size {args.val_image_size}', shape[1:])
    option = '--image-sizes' if args.image_sizes else '--base-image-size'
    for stage in stages:
        check_image_size(args.arch, f'{option} {min(stage.image_size)}', stage.image_size)
    return with_changes(args, training_stages=stages)


def note_of_source(args, source, assumed):
    """Return a line for the log about a file of another package.

    Args:
        assumed: options that its arrays do not determine, and their values, by name.
    """
    options = ', '.join(f'{option_name(name)} {as_text(value)}' for name, value in assumed.items())
    network = f'--load {args.load}: a network of {source}: {model_name(args.arch, args.num_layers)}'
    return f'{network}; assuming {options}' if options else network


def note_of_input(changes, source):
    """Return a line for the log about images that the file of --load needs in another form than the usual one."""
    unusual = [
        f'{option_name(name)} {as_text(changes[name])}'
        for name, usual in INPUT_DEFAULTS.items()
        if changes.get(name, usual) != usual
    ]
    return [f'images are prepared as --load {source} describes: {", ".join(unusual)}'] if unusual else []


def note_of_classes(args):
    """Compare the number of classes in the data set with that of the network that a run continues to train.

    Returns:
        Lines for the log.

    Raises:
        UserError: the data set has more classes.
    """
    names = names_in_data(args)
    is_continued = args.mode.trains and args.load is not None and not args.finetune
    if not is_continued or names is None or args.num_classes in (None, len(names)):
        return []
    found = f'--load {args.load} has {args.num_classes} classes, and the data set {len(names)}; {FINETUNE_ADVICE}'
    if len(names) > args.num_classes:
        raise UserError(found)
    return [found]


def check_finetune(args):
    """Raise `UserError` if the output layer that --finetune would replace is for the data set's classes."""
    if loaded_classes(args.load) == args.num_classes and first_other_class(args) is None:
        raise UserError(f'--finetune: --load {args.load} has the same {args.num_classes} classes; leave out --finetune')


def check_class_names(args):
    """Raise `UserError` if the file of --load has other names for the data set's classes, or another order."""
    found = first_other_class(args)
    if found is not None:
        index, in_file, in_data = found
        advice = FINETUNE_ADVICE if args.mode.trains else 'use the data set that it was trained with'
        raise UserError(f'--load {args.load}: its class {index} is {in_file}, and {in_data} in the data set; {advice}')


def first_other_class(args):
    """Return the first class that the file of --load and the data set, if they have as many, have other names for.

    Returns:
        Its index, its name in the file, and its name in the data set; None if there is no such class.
    """
    in_file, in_data = (
        find_class_names([], len(names), names) if names else []
        for names in (describe_loaded(args.load).known.get('classes'), names_in_data(args))
    )
    if len(in_file) != len(in_data):
        return None
    triples = zip(itertools.count(), in_file, in_data)
    return next((triple for triple in triples if not is_same_class(*triple[1:])), None)


def loaded_classes(source):
    """Return the number of classes of the file of a `LoadedNetwork`; None if the file does not show it."""
    return describe_loaded(source).known.get('num_classes') or count_classes(source.path)


def describe_loaded(source):
    """Return the `FileDescription` of a `LoadedNetwork`."""
    if source.int8_prefix is not None:
        return FileDescription(described_options(read_int8_description(source.int8_prefix)))
    return read_description(source.path, identify)


def log_files(args):
    return {'--log': args.log, '--dllogger-log': args.dllogger_log, '--report': args.report}


def check_inference_args(args):
    """Raise `UserError` if the network cannot be loaded or written in this mode."""
    if loads_int8(args):
        if args.mode not in (Mode.VAL, Mode.PRED):
            raise UserError(
                f'--load {args.load}: an int8 network works only with --mode val and pred; '
                'use the checkpoint that it was made from'
            )
        if args.device != 'cpu' or len(args.gpus) > 1:
            raise UserError(f'--load {args.load}: an int8 network runs on one CPU device per process; add --device cpu')
    if args.engine != MXNET:
        check_engine_args(args)
    if args.inference_dtype != FLOAT32:
        check_inference_dtype(args)
    if args.tta != NONE and (args.mode not in (Mode.VAL, Mode.PRED) or args.test_io):
        raise UserError(f'--tta {args.tta}: works only with --mode val and pred, and without --test-io; leave it out')
    if args.mode is Mode.PRED:
        pick(PredictionOptions, args)
    if args.mode is Mode.VAL and args.output is not None:
        check_is_scored(args, '--output')
    if args.analyze is not None:
        check_is_scored(args, '--analyze')
    if args.real_labels is not None:
        check_is_scored(args, REAL_LABELS)
    if args.mode is Mode.EXPORT:
        check_export(output_prefix(args), args.format, args.arch, args.num_layers)
    if args.mode is Mode.CALIBRATE:
        if args.device != 'cpu':
            raise UserError('--mode calibrate: int8 networks run only on a CPU; add --device cpu')
        pick(CalibrationOptions, args)
        check_new(int8_files(int8_output(args)))


def check_is_scored(args, option):
    """Raise `UserError` if an option that needs the results of a validation is used without any."""
    if args.mode is not Mode.VAL or args.test_io:
        raise UserError(f'{option}: works only with --mode val, and without --test-io; leave it out')
    if args.load is None:
        raise UserError(f'{option} needs a network: --load model_best.params')


def check_engine_args(args):
    """Raise `UserError` if an engine other than MXNet cannot do what the options require."""
    if args.mode not in (Mode.VAL, Mode.PRED):
        raise UserError(f'--engine {args.engine}: works only with --mode val and pred; leave it out')
    if args.device != 'cpu' or len(args.gpus) > 1:
        raise UserError(f'--engine {args.engine}: runs on one CPU device per process; add --device cpu')
    for option in ('no_fuse', 'amp'):
        if getattr(args, option):
            raise UserError(f'{option_name(option)}: has no meaning for --engine {args.engine}; leave one out')
    check_installed(args.engine)


def check_inference_dtype(args):
    """Raise `UserError` if the precision of --inference-dtype has no meaning for the other options."""
    option = f'--inference-dtype {args.inference_dtype}'
    if args.mode not in (Mode.VAL, Mode.PRED) or args.device != 'cpu':
        raise UserError(f'{option}: works only with --mode val and pred on a CPU; leave it out')
    if loads_int8(args):
        raise UserError(f'{option}: --load {args.load} is an int8 network; use the checkpoint that it was made from')
    check_dtype(args.engine, args.inference_dtype)


def loads_int8(args):
    return args.load is not None and args.load.int8_prefix is not None


def check_processor(args):
    """Check that the CPU can compute what the options require.

    Returns:
        Lines for the log; None if a check has nothing to report.

    Raises:
        UserError: the CPU cannot compute it.
    """
    if args.device != 'cpu':
        return []
    is_int8 = args.mode is Mode.CALIBRATE or loads_int8(args)
    return [
        processor.check_bfloat16('--amp') if args.amp else None,
        processor.check_bfloat16('--inference-dtype bfloat16') if args.inference_dtype == BFLOAT16 else None,
        processor.int8_note() if is_int8 else None,
    ]


def check_batch_sizes(args):
    """Raise `UserError` if a batch cannot be split equally, or a share is too small to be mixed or too large."""
    channels, *size = args.image_shape
    check_batch_size('--batch-size', args.batch_size, args.gpus, (channels, *size))
    for stage in args.training_stages if args.mode.trains else ():
        option = '--batch-size' if args.stage_batch_sizes is None else '--stage-batch-sizes'
        share = check_batch_size(option, stage.batch_size, args.gpus, (channels, *stage.image_size))
        check_pairs(pick(MixingOptions, args), share)


def check_batch_size(option, batch_size, gpus, image_shape):
    """Return the share of a batch that a device gets. Raise `UserError` if it is no whole number, or too large."""
    processes = ranks.size()
    shares = processes * (len(gpus) if processes == 1 else 1)
    if batch_size % shares:
        raise UserError(
            f'{option} {batch_size}: cannot be split equally over {shares} processes or devices; '
            f'use a multiple of {shares}'
        )
    if batch_size // shares * math.prod(image_shape) > MOST_VALUES:
        shape = ','.join(map(str, image_shape))
        raise UserError(
            f'{option} {batch_size} with --image-shape {shape}: an array of MXNet holds at most {MOST_VALUES} '
            'values; use a smaller batch'
        )
    return batch_size // shares


def check_by_building(args):
    """Find the errors that only building reveals.

    These are a missing Horovod, too little data for one batch, and a checkpoint of another network.
    """
    if ranks.size() > 1:
        distributed.load_horovod(args.kv_store, args.device)
    as_launched = SimpleNamespace(rank=lambda: 0, size=ranks.size)
    check_data(with_changes(args, seed=args.seed or 0), as_launched)
    if args.mode.trains:
        path = manifest_path(args.workspace, args.model_prefix)
        with only_run(args.workspace, args.model_prefix):
            found = None if args.no_resume else find_checkpoint(path)
        if found:
            resume_args(with_defaults(args, options_to_keep(found[0])), found[0], path)
    net = get_model(**model_options(args))
    if args.load is not None:
        allocate(net, [mx.cpu()])
        load_parameters(net, args.load.path, with_output=not args.finetune)


def check_data(args, kv):
    """Raise `UserError` if the data of the mode, or of a stage of training, cannot be opened or has too few images."""
    if not args.mode.trains:
        with open_data(args, kv):
            return
    with open_stages(args, kv) as (train_data, _):
        for stage in args.training_stages:
            count_steps(args, train_data.of(stage))


def resume_args(args, progress, path):
    """Prepare a checkpoint's progress for a run with these options. Return lines for the log."""
    return resume_with(progress, vars(args), stage_at(args.training_stages, progress.epoch).batch_size, path)


def run_training(args, notes):
    """Run --mode train_val or train, from the start or from the checkpoint in the workspace."""
    args, notes = choose_workspace(args, notes)
    # Locked before the checkpoint is read: otherwise another run could replace its parts meanwhile.
    with only_run(args.workspace, args.model_prefix) if distributed.rank() == 0 else nullcontext():
        path = manifest_path(args.workspace, args.model_prefix)
        found = find_checkpoint(path)
        if found:
            args = with_defaults(args, options_to_keep(found[0]))
            notes = [*notes, *resume_args(args, found[0], path)]
        else:
            notes = [*notes, *notes_of_start(args)]
        args, log = begin(with_defaults(args, INPUT_DEFAULTS), notes, is_resumed=found is not None)
        with log, open_stages(args, distributed) as (train_data, val_data):
            net = build_model(args, local_devices(args.device, args.gpus))
            train(args, net, train_data, val_data, log, found)


def notes_of_start(args):
    """Return lines for the log about the parameters of a run that does not resume."""
    if args.finetune:
        before = f'the output layer of --load {args.load}, for {loaded_classes(args.load)} classes,'
        return [f'--finetune: {before} is replaced by a new one for {args.num_classes}']
    if args.load is None and args.freeze != 'none':
        return [f'--freeze {args.freeze} without --load: what stays as it is has its initial values']
    return []


def choose_workspace(args, notes):
    """Choose a new folder for a run with --no-resume, the same on all ranks. Return the options and the notes."""
    if not args.no_resume:
        return args, notes
    folder, note = folder_for_new_run(args.workspace) if distributed.rank() == 0 else (None, None)
    folder, note = distributed.broadcast_json([folder and str(folder), note])
    return with_changes(args, workspace=Path(folder)), [*notes, *([note] if note else [])]


def begin(args, notes, is_resumed=False):
    """Seed everything, open the logs, and check that all ranks have the same packages and data.

    Returns:
        The options with their seed, and the `RunLog`.
    """
    args, log = open_log(args, is_resumed)
    log.info(
        f'{args.mode} on {distributed.size()} x {len(local_devices(args.device, args.gpus))} {args.device}, '
        f'{model_name(args.arch, args.num_layers)}, {args.dtype}, batch size {args.batch_size}, seed {args.seed}'
    )
    for note in notes:
        log.info(note)
    facts = {**versions(), **dataset_fingerprint(args)}
    distributed.check_ranks_agree(facts, 'all hosts need the same packages and data')
    return args, log


def open_log(args, is_resumed=False):
    """Seed everything and open the logs. Return the options with their seed, and the `RunLog`."""
    args = with_changes(args, seed=draw_seed() if args.seed is None else args.seed)
    seed_everything(args.seed)
    log = RunLog(pick(LogOptions, args), distributed.rank() == 0, is_resumed)
    log.options({name: as_json(value) for name, value in vars(args).items()})
    return args, log


def train(args, net, train_data, val_data, log, found):
    """Train with `fit`, from the start or from the checkpoint that was found."""
    path = manifest_path(args.workspace, args.model_prefix)
    if distributed.rank() == 0:
        remove_unfinished_checkpoint(args.workspace, args.model_prefix)
        remove_leftovers(args.workspace, glob.escape(args.report))
        keep_class_names(data_folders(args.data_train, args.data_val), args.workspace)
    devices = local_devices(args.device, args.gpus)
    optimizer = make_optimizer(pick(OptimizerOptions, args))
    loss, mix = make_loss(pick(LossOptions, args)), Mixing(pick(MixingOptions, args))
    step = TrainingStep(net, devices, optimizer, pick(StepOptions, args), pick(TransferOptions, args), loss, mix)
    report = new_report(args)
    progress = TrainingProgress(seed=args.seed, options=saved_options(vars(args)), epoch=args.begin_epoch)
    if found:
        progress, files = found
        progress.seed, progress.options = args.seed, saved_options(vars(args))
        restore(net, step, progress, files, path)
        report.metrics = progress.metrics
    check_ranks_start_equal(net, step, progress)
    if found:
        restore_statistics(step, files)
    if is_finished(args, progress):
        log.info('this run is complete; use --no-resume to start another one, or a larger --num-epochs to extend it')
        return
    saver = CheckpointSaver(pick(SaverOptions, args), describe_saved(args), log.info)
    with saver as checkpoints, new_profiler(args, log) as profiler:
        resize = partial(resize_network, net, args)
        data = train_data, val_data
        run = Run(args, net, resize, step, *data, log, report, progress, checkpoints, StopRequest(), profiler)
        try:
            fit(run)
        except KeyboardInterrupt:
            log.info(f'interrupted: {describe_checkpoint(path)}')
            raise


def describe_saved(args):
    """Return what the files of the networks that this run saves say about them."""
    names = names_in_data(args)
    is_named = names is not None and len(names) == args.num_classes
    return {**describe_model(args), **({'classes': names} if is_named else {})}


def names_in_data(args):
    """Return the class names of the data set; None if it has none."""
    if args.data_backend == 'synthetic':
        return None
    return first_class_names(data_folders(args.data_train, args.data_val))


def new_report(args):
    num_devices = distributed.size() * len(local_devices(args.device, args.gpus))
    # The stages follow from other options.
    options = {name: as_json(value) for name, value in vars(args).items() if name != 'training_stages'}
    environment = describe_environment(args.device)
    return Report(model_name(args.arch, args.num_layers), num_devices, sys.argv, options, environment)


def new_profiler(args, log):
    return Profiler(args.profile if distributed.rank() == 0 else None, args.workspace, log)


def choose_file_names(args, notes, prefix):
    """Choose file names for a run that does not train, so that it does not replace the files of a training run."""
    found = None
    if distributed.rank() == 0:
        found = names_beside_training(args.workspace, args.report, log_files(args), prefix)
    names, note = distributed.broadcast_json(found)
    args = with_changes(args, log=names['--log'], dllogger_log=names['--dllogger-log'], report=names['--report'])
    return args, [*notes, *([note] if note else [])]


def run_reading(args, notes):
    """Run --test-io: read the data without a network."""
    args, notes = choose_file_names(args, notes, 'io')
    args, log = begin(args, notes)
    with log, open_data(args, distributed) as (train_data, val_data):
        read_only(args, val_data if args.mode is Mode.VAL else train_data, log)


def run_validation(args, notes):
    """Run --mode val."""
    args, notes = choose_file_names(args, notes, args.mode)
    args, log = begin(args, notes)
    with log:
        validate_network(args, log)


def validate_network(args, log):
    """Do what --mode val does with one network."""
    net = open_network(args, log)
    is_each_needed = any(option is not None for option in (args.output, args.analyze, args.real_labels))
    rows, report = new_rows(args) if is_each_needed else None, new_report(args)
    with open_data(args, distributed) as (_, val_data), new_profiler(args, log) as profiler:
        evaluate(args, net, val_data, log, report, profiler, rows)
        results = None if rows is None else rows.gather(val_data.first_example)
    if results is not None:
        if distributed.rank() == 0:
            use_results(args, results, log, report)
        # A rank that ended earlier would shut Horovod down meanwhile.
        distributed.barrier()


def new_rows(args):
    return ExampleRows(args.num_classes, on_host=args.device == 'cpu')


def open_network(args, log):
    """Return what computes the logits of --mode val; see `as_network`."""
    engine, notes = build_engine(args, local_devices(args.device, args.gpus))
    for note in notes:
        log.info(note)
    net = as_network(engine)
    return FlippingNetwork(net, args.input_layout) if args.tta == FLIP else net


def run_comparison(args, candidates):
    """Run --mode val for each of many networks."""
    args, notes = choose_file_names(args, [], args.mode)
    args, log = open_log(args)
    with log:
        for note in notes:
            log.info(note)
        facts = {str(found.load): found.error or file_sha256(network_file(found.load)) for found in candidates}
        distributed.check_ranks_agree({**versions(), **facts}, 'all hosts need the same packages and networks')
        networks = compare_all(args, candidates, log)
        check_some_left(args.load, [network.error for network in networks])
        for line in as_markdown(networks).splitlines():
            log.info(line)
        if args.output is not None:
            log.info(f'wrote {args.output}: {len(networks)} networks')


def compare_all(args, candidates, log):
    """Return a row of the table for each network. The file of --output has those that are done."""
    networks = []
    for number, candidate in enumerate(candidates):
        log.info(f'network {number + 1}/{len(candidates)}: {candidate.load}')
        found = compare(candidate, log)
        networks.append(found)
        log.info(found.error or describe_phase(found.metrics))
        log.metrics((number,), {'network': found.path, **epoch_summary({'val': found.metrics})})
        if args.output is not None and distributed.rank() == 0:
            write_comparison(args.output, networks)
        # A network and its graph refer to each other.
        gc.collect()
        return_free_memory()
    return networks


def compare(candidate, log):
    """Validate the network of a `Candidate`. Return its row of the table, a `ComparedNetwork`."""
    if candidate.error:
        return ComparedNetwork(str(candidate.load), error=candidate.error)
    args = candidate.args
    for note in candidate.notes:
        log.info(note)
    about = str(candidate.load), model_name(args.arch, args.num_layers), 'x'.join(map(str, args.image_shape[1:]))
    try:
        net = open_network(args, log)
    except UserError as error:
        return ComparedNetwork(*about, error=candidate.reason(error))
    rows = None if args.real_labels is None else new_rows(args)
    # An error of the data is one of every network: it ends the run.
    with open_data(args, distributed) as (_, val_data):
        try:
            metrics = validate(args, net, val_data, log, rows=rows)
        except NonFiniteError as error:
            return ComparedNetwork(*about, error=candidate.reason(error))
        if rows is not None:
            metrics['real_top1'], _ = measure_real_top1(args, rows.gather(val_data.first_example))
    return ComparedNetwork(*about, metrics)


def use_results(args, results, log, report):
    """Do with the result of each example what --real-labels, --output and --analyze ask for."""
    names, records = class_names(args), validation_records(args)
    if args.real_labels is not None:
        add_real_top1(args, *measure_real_top1(args, results), log, report)
    if args.output is not None:
        write_results(args.output, results, names, records and read_listed_files(*records))
        log.info(f'wrote {args.output}: {len(results)} results')
    if args.analyze is not None:
        validation = Validation(results, names, records, count_training_images(args))
        for note in write_analysis(args.analyze, validation):
            log.info(note)


def measure_real_top1(args, results):
    """Return the accuracy with the labels of --real-labels, and how many images count; see `real_top1`."""
    accepted = right_classes(args.real_labels, validation_records(args), args.num_classes)
    return real_top1(results.numbers, results.said, accepted)


def add_real_top1(args, top1, images, log, report):
    """Add the accuracy with reassessed labels to the log and the report."""
    log.info(f'{REAL_LABELS}: top-1 {top1:.4f} of the {images} images that have a right class')
    if images == 0:
        return
    log.metrics((), {'val.real_top1': top1})
    # Each pass of --num-epochs finds the same.
    for _ in range(args.num_epochs):
        report.add('val', {'real_top1': top1})
    report.save(args.workspace / args.report)


def validation_records(args):
    """Return the paths of the record file and its index; None for synthetic images."""
    if args.data_backend == 'synthetic':
        return None
    return args.data_val, index_path(args.data_val, args.data_val_idx)


@lru_cache(maxsize=1)
def right_classes(path, records, num_classes):
    """Return what `read_real_labels` does for record files, or None. Kept, because a check reads it first."""
    return read_real_labels(path, records and read_listed_files(*records), num_classes)


def count_training_images(args):
    """Return the number of training images of each class, `(num_classes,)`; None if the data set has no list."""
    if args.data_backend == 'synthetic' or args.data_train is None:
        return None
    idx_path = index_path(args.data_train, args.data_train_idx)
    return count_listed_labels(args.data_train, idx_path, args.num_classes)


def run_calibration(args, notes):
    """Run --mode calibrate: make an int8 network from a checkpoint."""
    args, notes = choose_file_names(args, notes, args.mode)
    args, log = begin(args, notes)
    records = None if args.data_backend == 'synthetic' else calibration_records(args)
    evaluation = pick(EvaluationOptions, args)
    images = CalibrationImages(records, args.calib_images, evaluation, pick(InputForm, args), args.seed)
    with log:
        write_int8_network(args, images, evaluation, log)


def write_int8_network(args, images, evaluation, log):
    """Calibrate the network of --load with `CalibrationImages`, and write it."""
    reference, _ = build_inference_model(args, local_devices(args.device, args.gpus))
    with open_data(args, distributed) as (_, val_data):
        unfused = build_unfused(args)
        model, note = model_to_quantize(args, unfused)
        if note:
            log.info(note)
        network = calibrate(unfused, model, reference, images, val_data, pick(CalibrationOptions, args), log)
    prefix = int8_output(args)
    write_int8(prefix, network, args.load.path, describe_network(args, evaluation))
    log.info(f'wrote {prefix}: use it with --load {prefix} and --mode val or pred')


def model_to_quantize(args, net):
    """Return the bytes of the ONNX file of a network; None, and a line for the log, if there cannot be one."""
    try:
        check_quantizable(args)
        return onnx_model(net, args.image_shape, '--mode calibrate'), None
    except UserError as error:
        return None, f'no int8 network for engines other than {MXNET}: {error}'


def check_quantizable(args):
    """Raise `UserError` if no int8 network can be made for the engines other than MXNet."""
    if missing_packages(QUANTIZER):
        raise UserError('scripts/setup.sh --engines installs them')
    check_installed(QUANTIZER)
    if vars(in_exported_form(args)) != vars(args):
        raise UserError('they need --input-layout NCHW and three channels')


def run_prediction(args, notes):
    """Run --mode pred."""
    options, names = pick(PredictionOptions, args), class_names(args)
    with closing(find_images(args.data_pred)) as images, prediction_results(args, images, names) as results:
        engine, engine_notes = build_engine(args, local_devices(args.device, args.gpus))
        if args.tta == FLIP:
            engine = FlippingEngine(engine)
        predict(engine, names, images, results, options, pick(EvaluationOptions, args))
    print_notes([*notes, *engine_notes])


def prediction_results(args, images, names):
    """Return a context that provides what collects the results of --mode pred; see prediction_results.py."""
    if args.output is None:
        return counted_results()
    continue_without_output()
    num_classes = min(num_likeliest(images), len(names))
    return saved_results(args.output, len(images), num_classes, prediction_origin(args, images, names))


def prediction_origin(args, images, names):
    """Return the `Origin` of the results of --mode pred.

    The batch size is not part of it, so that a run can resume with a smaller one if memory was short.
    """
    values = {**vars(pick(NetworkDescription, args)), **vars(pick(EvaluationOptions, args))}
    values.update({name: getattr(args, name) for name in COMPUTING_OPTIONS})
    options = {option_name(name): as_json(value) for name, value in values.items()}
    checksums = {
        'file of --load': file_sha256(network_file(args.load)),
        'list of images': images.checksum,
        'list of class names': sha256(json.dumps(names).encode()).hexdigest(),
    }
    return Origin(options, checksums)


def network_file(load):
    """Return the file of a `LoadedNetwork` that determines what it computes."""
    return load.path if load.int8_prefix is None else int8_files(load.int8_prefix)[-1]


def run_export(args, notes):
    """Run --mode export, in a form that every program can read, whatever this machine would use."""
    continue_without_output()
    args = in_exported_form(args)
    evaluation = pick(EvaluationOptions, args)
    has_records = args.data_val is not None and args.data_val.exists()
    records = (args.data_val, index_path(args.data_val, args.data_val_idx)) if has_records else None
    images, source = images_to_compare(records, evaluation)
    made_from = {'file': str(args.load), 'sha256': file_sha256(args.load.path)}
    description = {'made_from': made_from, **describe_network(args, evaluation)}
    options = {**describe_model(args), 'classes': description['classes']}
    export(build_unfused(args), output_prefix(args), args.format, images, source, description, options)
    print_notes(notes)


def in_exported_form(args):
    """Return the options with the layouts and channels of every exported network."""
    layouts = {f'{name}_layout': 'NCHW' for name in ('input', 'conv', 'batchnorm', 'pooling')}
    return with_changes(args, **layouts, image_shape=(RGB_CHANNELS, *args.image_shape[1:]))


def print_notes(notes):
    """Print what a run without a log would log, on stderr, since stdout is for its results.

    Call this last: an error must be the only line on stderr.
    """
    for note in notes:
        print(note, file=sys.stderr)


def class_names(args):
    own = describe_loaded(args.load).known.get('classes')
    return find_class_names(
        [args.load.path.parent, *data_folders(args.data_train, args.data_val)], args.num_classes, own
    )


def describe_network(args, evaluation):
    """Return what a program must know to run a written network, as content for JSON."""
    network = pick(NetworkDescription, args).as_json()
    return {'network': network, **describe_input(args.input_layout, evaluation, class_names(args))}


def output_prefix(args):
    """Return the common prefix of the files made from `--load`."""
    return args.output if args.output is not None else args.load.path.with_suffix('')


def int8_output(args):
    return f'{output_prefix(args)}-int8'


RUN = {
    Mode.TRAIN_VAL: run_training,
    Mode.TRAIN: run_training,
    Mode.VAL: run_validation,
    Mode.CALIBRATE: run_calibration,
    Mode.PRED: run_prediction,
    Mode.EXPORT: run_export,
}

if __name__ == '__main__':
    run_program(main)
