#!/usr/bin/env python
"""The command line: gathers every room's options, builds model and data, and calls fit."""

import itertools
import os
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import cuda
import distributed
import launched
import processor
from build import build_model
from checkpoint import count_classes, load_parameters
from class_names import data_folders, read_class_names
from compat import mx
from dali import add_dali_args
from data import (
    add_augmentation_args,
    add_data_args,
    check_data_args,
    data_facts,
    get_data_loader,
    resolve_backend,
    resolve_dataset,
)
from environment import versions
from errors import INTERRUPTED_EXIT_CODE, UserError, one_line_errors
from export import add_export_args, check_export_args, export
from files import sole_use_of
from fit import Run, add_fit_args, check_fit_args, count_steps, evaluate, fit, is_finished, read_only
from inference import (
    add_inference_args,
    build_inference_model,
    int8_prefix,
    names_of_classes,
    read_int8_description,
)
from log_utils import RunLog, add_log_args, check_log_args, make_workspace
from models import add_model_args, check_model_args, get_model, initialize, model_name
from mxnet_data import add_mxnet_data_args
from optimization import TrainingStep, add_optimization_args, check_optimization_args
from options import MODES_OF_ONE_PROCESS, MODES_WITHOUT_DATA, ArgumentParser, comma_separated
from prediction import add_prediction_args, check_prediction_args, predict
from profiling import Profiler, add_profiling_args, check_profiling_args
from quantization import add_quantization_args, calibrate, check_quantization_args
from report import Report, is_of_training
from resume import (
    Progress,
    RunCheckpoints,
    add_checkpoint_args,
    change_batch_size,
    check_checkpoint_args,
    check_options,
    check_same_start,
    find_checkpoint,
    manifest_path,
    remove_leftovers,
    restore,
    saved_options,
)
from schedule import add_schedule_args, check_schedule_args
from stopping import StopRequest
from tuning import start_with_own_cores


def parse_args(argv=None):
    parser = ArgumentParser(description='Trains, validates and applies ImageNet classifiers.')
    add_model_args(parser)
    add_fit_args(parser)
    add_checkpoint_args(parser)
    add_schedule_args(parser)
    add_optimization_args(parser)
    add_device_args(parser)
    add_data_args(parser)
    add_augmentation_args(parser)
    add_dali_args(parser)
    add_mxnet_data_args(parser)
    add_inference_args(parser)
    add_quantization_args(parser)
    add_export_args(parser)
    add_prediction_args(parser)
    add_log_args(parser)
    add_profiling_args(parser)
    parser.add_argument('--check-only', action='store_true', help='check the options and the files, then stop')
    return parser.parse_args(argv)


def add_device_args(parser):
    group = parser.add_argument_group('Devices')
    group.add_argument(
        '--device',
        choices=('auto', 'cpu', 'gpu'),
        default='auto',
        help='what to compute on; auto: GPUs where MXNet sees one (default: %(default)s)',
    )
    group.add_argument(
        '--gpus',
        type=comma_separated(int),
        default=(0,),
        help='GPUs of a single process, for example 0,1; on a CPU it can be as many devices (default: 0)',
    )
    group.add_argument(
        '--kv-store',
        choices=('device', 'horovod'),
        default='device',
        help='what averages the gradients: MXNet in one process, or Horovod over several (default: %(default)s)',
    )
    group.add_argument(
        '--dtype',
        choices=('float32', 'float16'),
        help='precision of the network; float32 on an Ampere GPU or later is TF32, which the environment variable '
        'NVIDIA_TF32_OVERRIDE=0 turns off (default: float16 on GPUs, float32)',
    )


def choose_device(args):
    """Makes 'cpu' or 'gpu' of `--device auto`."""
    if args.device == 'auto':
        args.device = 'gpu' if distributed.count_gpus() else 'cpu'


def resolve_device(args):
    """Decides what depends on the device, once.

    Raises:
        UserError: the machine cannot do what the options ask for.
    """
    if args.device == 'gpu':
        check_gpus(max(launched.local_size(), max(args.gpus) + 1))
    if args.dtype is None:
        args.dtype = 'float16' if args.device == 'gpu' and not args.amp else 'float32'
    if args.device == 'cpu' and args.dtype == 'float16':
        raise UserError('--dtype float16: MXNet has no float16 convolutions on a CPU; use --dtype float32')


def check_gpus(needed):
    """Raises `UserError` where there are not so many GPUs, or MXNet cannot use them."""
    if not mx.runtime.Features().is_enabled('CUDA'):
        raise UserError('--device gpu: MXNet here is for CPUs: run scripts/setup.sh --gpu, or use --device cpu')
    if cuda.has_wheel():
        cuda.check_supported(cuda.read_driver())
    num_gpus = distributed.count_gpus()
    if num_gpus == 0:
        raise UserError('--device gpu: MXNet sees no GPU here; use --device cpu')
    if needed > num_gpus:
        raise UserError(f'this takes {needed} GPUs, and MXNet sees {num_gpus} here; use fewer (-n, --gpus)')


def check_processor(args):
    """Checks that the CPU can compute what the options ask for.

    Returns:
        Lines for the log, or None in their place.

    Raises:
        UserError: it cannot.
    """
    if args.device != 'cpu':
        return []
    is_int8 = args.mode == 'calibrate' or int8_prefix(args.load) is not None
    return [
        processor.check_bfloat16('--amp') if args.amp else None,
        processor.int8_note() if is_int8 else None,
    ]


def resolve_batch_size(args):
    """Checks that the batch can be shared out.

    Raises:
        UserError: it cannot.
    """
    processes = launched.size()
    shares = processes * (len(args.gpus) if processes == 1 else 1)
    if args.batch_size % shares:
        raise UserError(
            f'--batch-size {args.batch_size}: {shares} processes or devices cannot share it equally; '
            f'use a multiple of {shares}'
        )


def resolve_args(args):
    """Checks the options and fills in those that depend on the device, the data or the checkpoint.

    Returns:
        Lines for the log, about choices that a user may not expect.
    """
    if args.test_io:
        args.mode = args.test_io_mode
    if args.mode in MODES_OF_ONE_PROCESS and launched.size() > 1:
        raise UserError(f'--mode {args.mode} with {launched.size()} processes: start one')
    check_fit_args(args)
    check_checkpoint_args(args)
    check_schedule_args(args)
    check_model_args(**vars(args))
    check_log_args(args)
    check_profiling_args(args)
    check_prediction_args(args)
    resolve_device(args)
    check_optimization_args(args)
    check_quantization_args(args)
    check_export_args(args)
    notes = [resolve_backend(args), *check_processor(args)]
    check_data_args(args)
    resolve_batch_size(args)
    if args.load is not None and args.num_classes is None:
        args.num_classes = classes_of(args.load)
    if args.mode not in MODES_WITHOUT_DATA:
        resolve_dataset(args)
        make_workspace(args)
    elif args.num_classes is None:
        raise UserError(f'--load {args.load}: this file does not tell its classes; give --num-classes')
    return [note for note in notes if note]


def classes_of(path):
    """The number of classes of the network of `--load`, or None where its file does not say."""
    prefix = int8_prefix(path)
    return count_classes(path) if prefix is None else read_int8_description(prefix)['network'].get('num_classes')


def choose_files(args):
    """Keeps a run from writing over another one's files: in a folder of its own, or under names of its own.

    Returns:
        What it changed of `args`, and a line for the log about it or None.
    """
    if 'train' in args.mode and not args.test_io:
        if not args.no_resume or not any(args.workspace.iterdir()):
            return {}, None
        folders = (args.workspace / f'run{number}' for number in itertools.count(2))
        folder = next(folder for folder in folders if not folder.exists())
        folder.mkdir()
        note = f'--no-resume: this run is in {folder}; name that as --workspace to go on with it'
        return {'workspace': str(folder)}, note
    if not is_of_training(args.workspace / args.report):
        return {}, None
    prefix = 'io' if args.test_io else args.mode
    changes = {name: f'{prefix}_{getattr(args, name)}' for name in ('report', 'log', 'dllogger_log')}
    return changes, f"{args.workspace} has a training run's report and logs: the names of these begin with {prefix}_"


def seed_everything(args):
    """Seeds MXNet and NumPy alike on all processes; a seed that was not given is drawn on rank 0."""
    if args.seed is None:
        drawn = np.random.SeedSequence().entropy % 2**31 if distributed.rank() == 0 else 0
        args.seed = int(distributed.allreduce_sum([drawn])[0])
    mx.random.seed(args.seed)
    np.random.seed(args.seed)


def keep_class_names(args):
    """Puts the data set's class names beside the checkpoints, where prediction finds them."""
    for folder in data_folders(args):
        if read_class_names(folder) and folder.resolve() != args.workspace.resolve():
            shutil.copy(folder / 'classes.txt', args.workspace / 'classes.txt')
            return


def run_loops(args, notes):
    """Everything but prediction."""
    devices = distributed.devices(args)
    changes, note = distributed.broadcast_json(choose_files(args) if distributed.rank() == 0 else None)
    notes += [note] if note else []
    vars(args).update(changes)
    args.workspace = Path(args.workspace)
    if 'train' in args.mode and not args.test_io:
        # Before the checkpoint is read: another run would replace its parts meanwhile.
        with only_run(args) if distributed.rank() == 0 else nullcontext():
            run_loop(args, devices, notes, find_checkpoint(args))
    else:
        run_loop(args, devices, notes, None)


def only_run(args):
    """Keeps other training runs out of the workspace; see `sole_use_of`."""
    return sole_use_of(args.workspace / f'.{args.model_prefix}.lock')


def run_loop(args, devices, notes, found):
    """The loop of the mode, from the start or from a checkpoint that was found."""
    if found:
        notes += check_resumed(args, found[0])
    seed_everything(args)
    log = RunLog(args, distributed.rank() == 0, is_resumed=found is not None)
    log.metrics('PARAMETER', {name: _as_json(value) for name, value in vars(args).items()})
    log.say(
        f'{args.mode} on {distributed.size()} x {len(devices)} {args.device}, {args.dtype}, '
        f'batch size {args.batch_size}, seed {args.seed}'
    )
    for note in notes:
        log.say(note)
    distributed.check_alike({**versions(), **data_facts(args)}, 'all hosts need the same packages and data')
    train_data, val_data = get_data_loader(args)(args, distributed)
    if args.test_io:
        read_only(args, val_data if args.mode == 'val' else train_data, log)
        return
    if args.mode == 'calibrate':
        calibrate(args, devices, val_data, log)
        return
    if args.mode == 'val':
        net, note = build_inference_model(args, devices)
        if note:
            log.say(note)
    else:
        net = build_model(args, devices)
    report = Report(model_name(args.arch, args.num_layers), distributed.size() * len(devices), sys.argv)
    if args.mode == 'val':
        evaluate(args, net, val_data, log, report, Profiler(args, log, distributed.rank() == 0))
    else:
        train(args, net, devices, train_data, val_data, log, report, found)


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


def train(args, net, devices, train_data, val_data, log, report, found):
    """`fit`, from the start or from a checkpoint that was found."""
    if distributed.rank() == 0:
        remove_leftovers(args)
        keep_class_names(args)
    step = TrainingStep(args, net, devices)
    progress = Progress(seed=args.seed, options=saved_options(args), epoch=args.begin_epoch)
    if found:
        progress, files = found
        progress.seed, progress.options = args.seed, saved_options(args)
        restore(net, step, progress, files, manifest_path(args.workspace, args.model_prefix))
        report.metrics = progress.metrics
    check_same_start(net, step, progress)
    if is_finished(args, progress):
        log.say('this run is complete; --no-resume starts another one, more --num-epochs lengthens it')
        return
    checkpoints = RunCheckpoints(args, log.say)
    profiler = Profiler(args, log, distributed.rank() == 0)
    run = Run(args, net, step, train_data, val_data, log, report, progress, checkpoints, StopRequest(), profiler)
    try:
        fit(run)
    except KeyboardInterrupt:
        log.say(f'interrupted: {describe_checkpoint(args)}')
        # Not by way of MXNet's own exit, which would first finish all steps that were pushed.
        sys.stdout.flush()
        os._exit(INTERRUPTED_EXIT_CODE)


def describe_checkpoint(args):
    path = manifest_path(args.workspace, args.model_prefix)
    return f'the same command goes on from {path}' if path.exists() else 'no checkpoint was saved yet'


def _as_json(value):
    return str(value) if isinstance(value, Path) else value


def run_prediction(args):
    devices = distributed.devices(args)
    net, _ = build_inference_model(args, devices)
    predict(net, args, devices[0], names_of_classes(args))


def check_by_building(args):
    """Finds what only building tells: no Horovod, batches that data do not fill, a checkpoint of another network."""
    if launched.size() > 1:
        distributed.load_horovod(args)
    as_launched = SimpleNamespace(rank=lambda: 0, size=launched.size)
    args.seed = args.seed or 0
    train_data, _ = get_data_loader(args)(args, as_launched)
    if train_data is not None:
        count_steps(args, train_data)
        with only_run(args):
            found = None if args.no_resume else find_checkpoint(args)
        if found:
            check_resumed(args, found[0])
    net = get_model(**vars(args))
    if args.load is not None:
        initialize(net, [mx.cpu()])
        load_parameters(net, args.load)


def main():
    # Until the processes have met, they all find the same mistakes; after that, each has its own.
    with one_line_errors(show=lambda: launched.rank() == 0 or distributed.size() > 1):
        args = parse_args()
        choose_device(args)
        if args.device == 'cpu':
            # `runner` has done that; a bare `python train.py` shall be as fast.
            start_with_own_cores()
        notes = resolve_args(args)
        if args.check_only:
            check_by_building(args)
            return
        distributed.initialize(args)
        with distributed.noticing_lost_processes():
            if args.mode == 'pred':
                run_prediction(args)
            elif args.mode == 'export':
                export(args)
            else:
                run_loops(args, notes)


if __name__ == '__main__':
    main()
