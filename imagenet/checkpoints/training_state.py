"""The state of training as arrays: network, optimizer and averaged parameters."""

import hashlib
import json

from imagenet.checkpoints.local_statistics import PART as STATISTICS
from imagenet.checkpoints.manifest import ADVICE
from imagenet.checkpoints.parameters import (
    array_differences,
    canonical_arrays,
    canonical_shapes,
    from_canonical,
    named_parameters,
    read_arrays,
    set_canonical,
    to_canonical,
)
from imagenet.common.errors import UserError
from imagenet.runtime import distributed
from imagenet.runtime.compat import mx

# Counters that optimizers keep in addition to their arrays.
OPTIMIZER_COUNTERS = ('num_update', 'm_schedule')


def snapshot(net, step):
    """Return copies of all arrays of a checkpoint, by part, made asynchronously by MXNet's engine."""
    parts = {'parameters': canonical_arrays(net), 'optimizer': _optimizer_arrays(net, step.trainer)}
    if step.average is not None:
        # What is frozen is not averaged.
        parts['average'] = {**parts['parameters'], **average_arrays(net, step.average)}
    return {name: arrays for name, arrays in parts.items() if arrays}


def average_arrays(net, average):
    """Return the averaged parameters in canonical form."""
    names = _canonical_names(net)
    return {names[name]: to_canonical(names[name], array, net.weight_layout) for name, array in average.arrays.items()}


def _canonical_names(net):
    return {param.name: name for name, param in named_parameters(net).items()}


def _leaves(state):
    """Yield the arrays in an optimizer's state of one parameter, which may be nested tuples that contain None."""
    if isinstance(state, (tuple, list)):
        for part in state:
            yield from _leaves(part)
    elif state is not None:
        yield state


def _optimizer_arrays(net, trainer):
    """Return the first device's state arrays, by names such as 'features.0.weight:0'.

    An array with the parameter's shape is in canonical form.
    """
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
    """Return the counters that an optimizer keeps in addition to its arrays, by name."""
    return {name: getattr(optimizer, name) for name in OPTIMIZER_COUNTERS if hasattr(optimizer, name)}


def restore(net, step, progress, files, path):
    """Set network, optimizer and averages to the values of a checkpoint, on all processes.

    Args:
        files: the files of the parts on rank 0; None on other ranks, which receive their content from rank 0.
        path: path of the manifest, for messages.

    Raises:
        UserError: a part cannot be read, or lacks an array that the network or the optimizer needs.
    """
    parts = None if files is None else _read_parts(net, step, files, path)
    if parts is not None:
        set_canonical(net, parts['parameters'])
    distributed.broadcast(net.collect_params())
    _restore_optimizer(net, step.trainer, progress, parts and parts.get('optimizer', {}), path)
    if step.average is not None:
        names = _canonical_names(net)
        for name, array in step.average.arrays.items():
            if parts is not None:
                value = from_canonical(names[name], parts['average'][names[name]], net)
                value.as_in_context(array.context).copyto(array)
        distributed.broadcast(step.average.arrays)
        step.average.updates = progress.average_updates
    for name, value in progress.loss_scale.items():
        setattr(step.loss_scale, name, value)


def _read_parts(net, step, files, path):
    """Return the arrays of each part, by name.

    Raises:
        UserError: a part is missing or cannot be read, or has other arrays than the network.
    """
    needed = ('parameters', 'average') if step.average is not None else ('parameters',)
    missing = ', '.join(name for name in needed if name not in files)
    if missing:
        raise UserError(f'{path}: this checkpoint has no {missing}; {ADVICE}')
    # `restore_statistics` reads those of the ranks.
    names = [name for name in files if name != STATISTICS]
    parts = {name: read_arrays(files[name], f'{files[name]}: a part of {path}') for name in names}
    for name in needed:
        differences = array_differences(parts[name], canonical_shapes(net))
        if differences:
            raise UserError(f'{files[name]}: {name} of another network: {"; ".join(differences)}; {ADVICE}')
    return parts


def _restore_optimizer(net, trainer, progress, arrays, path):
    # The optimizer has no state before its first update.
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
    value = arrays[key]
    if leaf.shape == param.shape and value.ndim == len(leaf.shape):
        value = from_canonical(name, value, net)
    if value.shape != leaf.shape:
        raise UserError(f'{path}: its {key} has shape {value.shape} instead of {leaf.shape}; {ADVICE}')
    value.astype(leaf.dtype).as_in_context(leaf.context).copyto(leaf)


def check_ranks_start_equal(net, step, progress):
    """Check that all processes start from the same numbers: all arrays, counters, loss scale and seed.

    Raises:
        UserError: they differ; the message names the first difference.
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
    # The digests of the individual arrays are exchanged only if the ranks differ.
    if len(set(distributed.gather_json(whole))) > 1:
        distributed.check_ranks_agree({**digests, **numbers}, 'the ranks did not start or resume from the same state')
