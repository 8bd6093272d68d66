#!/usr/bin/env python
"""The command line: gathers every room's options, builds model and data, and calls fit."""

import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import distributed
from checkpoint import CheckpointWriter, count_classes, load_parameters
from class_names import data_folders, find_class_names, read_class_names
from compat import mx
from dali import add_dali_args
from data import (
    add_augmentation_args,
    add_data_args,
    check_data_args,
    get_data_loader,
    resolve_backend,
    resolve_dataset,
)
from errors import INTERRUPTED_EXIT_CODE, UserError, one_line_errors
from fit import add_fit_args, check_fit_args, fit, predict, read_only
from images import as_network_input, load_image
from log_utils import RunLog, add_log_args, check_log_args, make_workspace
from models import add_model_args, check_model_args, get_model, initialize, model_name
from mxnet_data import add_mxnet_data_args
from options import ArgumentParser, comma_separated
from report import Report

CLASSES_SHOWN = 10


def parse_args(argv=None):
    parser = ArgumentParser(description='Trains, validates and applies ImageNet classifiers.')
    add_model_args(parser)
    add_fit_args(parser)
    add_device_args(parser)
    add_data_args(parser)
    add_augmentation_args(parser)
    add_dali_args(parser)
    add_mxnet_data_args(parser)
    add_log_args(parser)
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
        help='GPUs of a single process, for example 0,1 (default: 0)',
    )
    group.add_argument(
        '--kv-store',
        choices=('device', 'horovod'),
        default='device',
        help='what averages the gradients: MXNet in one process, or Horovod over several (default: %(default)s)',
    )
    group.add_argument(
        '--dtype', choices=('float32', 'float16'), help='precision of the network (default: float16 on GPUs, float32)'
    )


def resolve_device(args):
    """Decides what depends on the device, once.

    Raises:
        UserError: the machine cannot do what the options ask for.
    """
    num_gpus = mx.context.num_gpus()
    if args.device == 'auto':
        args.device = 'gpu' if num_gpus else 'cpu'
    if args.device == 'gpu' and num_gpus == 0:
        raise UserError('--device gpu: MXNet sees no GPU here; use --device cpu')
    if args.dtype is None:
        args.dtype = 'float16' if args.device == 'gpu' else 'float32'
    if args.device == 'cpu' and args.dtype == 'float16':
        raise UserError('--dtype float16: MXNet has no float16 convolutions on a CPU; use --dtype float32')


def resolve_batch_size(args):
    """Checks that the batch can be shared out.

    Raises:
        UserError: it cannot.
    """
    processes = distributed.launched_size()
    shares = processes * (len(args.gpus) if args.device == 'gpu' and processes == 1 else 1)
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
    check_fit_args(args)
    check_model_args(**vars(args))
    check_log_args(args)
    resolve_device(args)
    notes = [resolve_backend(args)]
    check_data_args(args)
    resolve_batch_size(args)
    if args.load is not None and args.num_classes is None:
        args.num_classes = count_classes(args.load)
    if args.mode != 'pred':
        resolve_dataset(args)
        make_workspace(args)
    elif args.num_classes is None:
        raise UserError(f'--load {args.load}: this file does not tell its classes; give --num-classes')
    return [note for note in notes if note]


def seed_everything(args):
    """Seeds MXNet and NumPy alike on all processes; a seed that was not given is drawn on rank 0."""
    if args.seed is None:
        drawn = np.random.SeedSequence().entropy % 2**31 if distributed.rank() == 0 else 0
        args.seed = int(distributed.allreduce_sum([drawn])[0])
    mx.random.seed(args.seed)
    np.random.seed(args.seed)


def build_model(args, devices):
    """The network on its devices: initialised or loaded, the same on every process, hybridized."""
    net = get_model(**vars(args))
    initialize(net, devices)
    if args.load is not None:
        load_parameters(net, args.load)
    net.cast(args.dtype)
    distributed.broadcast(net.collect_params())
    net.hybridize(static_alloc=True, static_shape=args.mode != 'pred')
    return net


def keep_class_names(args):
    """Puts the data set's class names beside the checkpoints, where prediction finds them."""
    for folder in data_folders(args):
        if read_class_names(folder) and folder.resolve() != args.workspace.resolve():
            shutil.copy(folder / 'classes.txt', args.workspace / 'classes.txt')
            return


def run_training(args, notes):
    devices = distributed.devices(args)
    is_writer = distributed.rank() == 0
    seed_everything(args)
    if is_writer and 'train' in args.mode:
        keep_class_names(args)
    log = RunLog(args, is_writer)
    log.metrics('PARAMETER', {name: _as_json(value) for name, value in vars(args).items()})
    log.say(
        f'{args.mode} on {distributed.size()} x {len(devices)} {args.device}, {args.dtype}, '
        f'batch size {args.batch_size}, seed {args.seed}'
    )
    for note in notes:
        log.say(note)
    train_data, val_data = get_data_loader(args)(args, distributed)
    if args.test_io:
        read_only(args, val_data if args.mode == 'val' else train_data, log)
        return
    net = build_model(args, devices)
    report = Report(model_name(args.arch, args.num_layers), distributed.size() * len(devices), sys.argv)
    checkpoints = CheckpointWriter(args.workspace, args.model_prefix, args.save_frequency)
    try:
        fit(args, net, train_data, val_data, devices, log, report, checkpoints)
    except KeyboardInterrupt:
        kept = f'{checkpoints.last_path} is whole' if checkpoints.last_path else 'no checkpoint was saved yet'
        log.say(f'interrupted: {kept}')
        # Not by way of MXNet's own exit, which would first finish all steps that were pushed.
        sys.stdout.flush()
        os._exit(INTERRUPTED_EXIT_CODE)


def _as_json(value):
    return str(value) if isinstance(value, Path) else value


def run_prediction(args):
    devices = distributed.devices(args)
    image = as_network_input(mx.nd.array(load_image(args.data_pred, args), ctx=devices[0]), args)
    net = build_model(args, devices)
    names = find_class_names([Path(args.load).parent, *data_folders(args)], args.num_classes)
    for index, probability in predict(net, image, CLASSES_SHOWN):
        print(f'{probability:8.4%}  {names[index]}')


def check_by_building(args):
    """Finds what only building tells: batches that data do not fill, a checkpoint of another network."""
    as_launched = SimpleNamespace(rank=lambda: 0, size=distributed.launched_size)
    args.seed = args.seed or 0
    get_data_loader(args)(args, as_launched)
    net = get_model(**vars(args))
    if args.load is not None:
        initialize(net, [mx.cpu()])
        load_parameters(net, args.load)


def main():
    with one_line_errors(show=lambda: distributed.launched_rank() == 0):
        args = parse_args()
        notes = resolve_args(args)
        if args.check_only:
            check_by_building(args)
            return
        distributed.initialize(args.kv_store)
        if args.mode == 'pred':
            run_prediction(args)
        else:
            run_training(args, notes)


if __name__ == '__main__':
    main()
