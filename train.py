#!/usr/bin/env python
"""The command line: gathers every room's options, builds model and data, and calls fit."""

import os
import sys
from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

from dali import add_dali_args
from data import (
    add_augmentation_args,
    add_data_args,
    calibration_records,
    check_data_args,
    data_facts,
    get_data_loader,
    resolve_backend,
    resolve_dataset,
)
from fit import Run, add_fit_args, check_fit_args, count_steps, evaluate, fit, is_finished, read_only
from imagenet.checkpoints.loading import count_classes, load_parameters
from imagenet.checkpoints.manifest import Progress, manifest_path, remove_leftovers
from imagenet.checkpoints.resume import check_resumed, describe_checkpoint, find_checkpoint, saved_options
from imagenet.checkpoints.saver import RunCheckpoints, add_checkpoint_args, check_checkpoint_args
from imagenet.checkpoints.training_state import check_same_start, restore
from imagenet.common.errors import INTERRUPTED_EXIT_CODE, UserError, one_line_errors
from imagenet.common.files import check_new, file_sha256
from imagenet.common.modes import MODES_OF_ONE_PROCESS, MODES_WITHOUT_DATA
from imagenet.common.options import ArgumentParser, pick
from imagenet.datasets.class_names import data_folders, keep_class_names
from imagenet.datasets.decoding import RGB_CHANNELS
from imagenet.datasets.records import index_path
from imagenet.inference.calibration import (
    CalibrationImages,
    CalibrationOptions,
    add_quantization_args,
    calibrate,
    write_int8,
)
from imagenet.inference.export import add_export_args, check_export, export, images_to_compare
from imagenet.inference.fused_graph import add_inference_args
from imagenet.inference.int8_network import int8_files, int8_prefix, names_of_classes, read_int8_description
from imagenet.inference.metadata import NetworkDescription, describe_input
from imagenet.inference.prediction import PredictionOptions, add_prediction_args, predict
from imagenet.input_pipeline.mxnet_backend import add_mxnet_data_args
from imagenet.input_pipeline.transforms import EvaluationOptions, InputForm
from imagenet.launcher import ranks
from imagenet.launcher.worker_env import start_with_own_cores
from imagenet.reporting.report_file import Report
from imagenet.reporting.run_log import RunLog, add_log_args
from imagenet.reporting.workspace import check_log_args, choose_files, make_workspace, only_run
from imagenet.runtime import distributed, processor
from imagenet.runtime.compat import mx
from imagenet.runtime.devices import add_device_args, choose_device, local_devices, resolve_device
from imagenet.runtime.seeds import seed_everything
from imagenet.runtime.system_info import versions
from imagenet.training.lr_schedule import add_schedule_args, check_schedule_args
from imagenet.training.optimizer import add_optimization_args, check_optimization_args
from imagenet.training.profiler import Profiler, add_profiling_args, check_profiling_args
from imagenet.training.step import TrainingStep
from imagenet.training.stop_signals import StopRequest
from models import (
    add_model_args,
    build_inference_model,
    build_model,
    build_unfused,
    check_model_args,
    get_model,
    initialize,
    model_name,
)


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
    processes = ranks.size()
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
    if args.mode in MODES_OF_ONE_PROCESS and ranks.size() > 1:
        raise UserError(f'--mode {args.mode} with {ranks.size()} processes: start one')
    check_fit_args(args)
    check_checkpoint_args(args)
    check_schedule_args(args)
    check_model_args(**vars(args))
    check_log_args(args)
    check_profiling_args(args)
    resolve_device(args)
    check_optimization_args(args)
    check_inference_args(args)
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


def run_loops(args, notes):
    """Everything but prediction."""
    devices = local_devices(args)
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
        run_calibration(args, devices, val_data, log)
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


def _as_json(value):
    return str(value) if isinstance(value, Path) else value


def run_prediction(args):
    devices = local_devices(args)
    net, _ = build_inference_model(args, devices)
    names = names_of_classes(args.load, data_folders(args), args.num_classes)
    options, evaluation, form = (pick(kind, args) for kind in (PredictionOptions, EvaluationOptions, InputForm))
    predict(net, names, options, evaluation, form, devices[0])


def run_calibration(args, devices, val_data, log):
    records = None if args.data_backend == 'synthetic' else calibration_records(args)
    evaluation = pick(EvaluationOptions, args)
    images = CalibrationImages(records, args.calib_images, evaluation, pick(InputForm, args), args.seed)
    reference, _ = build_inference_model(args, devices)
    options = pick(CalibrationOptions, args)
    network = calibrate(build_unfused(args), reference, images, val_data, options, log)
    prefix = int8_output(args)
    write_int8(prefix, network, args.load, describe_network(args, evaluation))
    log.say(f'wrote {prefix}: use it with --load {prefix} and --mode val or pred')


def run_export(args):
    # In the form that every program can take, whatever this machine has.
    form = {f'{name}_layout': 'NCHW' for name in ('input', 'conv', 'batchnorm', 'pooling')}
    args = Namespace(**{**vars(args), **form, 'image_shape': (RGB_CHANNELS, *args.image_shape[1:])})
    evaluation = pick(EvaluationOptions, args)
    has_records = args.data_val is not None and args.data_val.exists()
    records = (args.data_val, index_path(args.data_val, args.data_val_idx)) if has_records else None
    images, source = images_to_compare(records, evaluation)
    made_from = {'file': str(args.load), 'sha256': file_sha256(args.load)}
    description = {'made_from': made_from, **describe_network(args, evaluation)}
    export(build_unfused(args), output_prefix(args), args.format, images, source, description)


def describe_network(args, evaluation):
    """What programs that run a written network must know, as JSON has it."""
    names = names_of_classes(args.load, data_folders(args), args.num_classes)
    network = pick(NetworkDescription, args).as_json()
    return {'network': network, **describe_input(args.input_layout, evaluation, names)}


def output_prefix(args):
    """What the names of files made from `--load` begin with."""
    return args.output if args.output is not None else Path(args.load).with_suffix('')


def int8_output(args):
    return f'{output_prefix(args)}-int8'


def check_inference_args(args):
    """Raises `UserError` for a network that cannot be loaded or written in this mode."""
    if int8_prefix(args.load) is not None:
        if args.mode not in ('val', 'pred'):
            raise UserError(
                f'--load {args.load}: an int8 network is for --mode val and pred; use the checkpoint behind it'
            )
        if args.device != 'cpu' or len(args.gpus) > 1:
            raise UserError(f'--load {args.load}: an int8 network runs on a CPU, one per process; add --device cpu')
    if args.mode == 'pred':
        pick(PredictionOptions, args)
    if args.mode == 'export':
        check_export(output_prefix(args), args.format)
    if args.mode == 'calibrate':
        if args.device != 'cpu':
            raise UserError('--mode calibrate: int8 networks are for a CPU; add --device cpu')
        pick(CalibrationOptions, args)
        check_new(int8_files(int8_output(args)))


def check_by_building(args):
    """Finds what only building tells: no Horovod, batches that data do not fill, a checkpoint of another network."""
    if ranks.size() > 1:
        distributed.load_horovod(args)
    as_launched = SimpleNamespace(rank=lambda: 0, size=ranks.size)
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
    with one_line_errors(show=lambda: ranks.rank() == 0 or distributed.size() > 1):
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
                run_export(args)
            else:
                run_loops(args, notes)


if __name__ == '__main__':
    main()
