"""A training step with options as train.py parses them."""

import argparse

from imagenet.common.options import pick
from imagenet.training.losses import LossOptions, add_loss_args, make_loss
from imagenet.training.mixing import Mixing, MixingOptions, add_mixing_args
from imagenet.training.optimizer import OptimizerOptions, add_optimization_args, make_optimizer
from imagenet.training.step import StepOptions, TrainingStep
from imagenet.training.transfer import TransferOptions, add_transfer_args

BATCH = 16


def make_args(**changes):
    parser = argparse.ArgumentParser()
    add_optimization_args(parser)
    add_loss_args(parser)
    add_mixing_args(parser)
    add_transfer_args(parser)
    args = parser.parse_args([])
    settings = {'lr': 0.1, 'dtype': 'float32', 'seed': 3, 'batch_size': BATCH, 'num_classes': 10, 'no_metrics': False}
    network = {'drop_connect': 0, 'dropout': 0, 'input_layout': 'NCHW'}
    for name, value in {**settings, **network, **changes}.items():
        setattr(args, name, value)
    return args


def make_step(args, net, devices):
    optimizer = make_optimizer(pick(OptimizerOptions, args))
    loss, mix = make_loss(pick(LossOptions, args)), Mixing(pick(MixingOptions, args))
    return TrainingStep(net, devices, optimizer, pick(StepOptions, args), pick(TransferOptions, args), loss, mix)


def freeze_batch_norm(block):
    if hasattr(block, '_kwargs') and 'use_global_stats' in block._kwargs:
        block._kwargs['use_global_stats'] = True
    for child in block._children.values():
        freeze_batch_norm(child)
