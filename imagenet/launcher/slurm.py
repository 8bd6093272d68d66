"""Ranks under Slurm: srun starts the workers, each finds its rank in the environment, and all meet at rank 0."""

import re

from imagenet.common.errors import UserError

FIRST_PORT, NUM_PORTS = 20000, 20000
# If this variable is set, rank 0 opens a meeting point. Its value is the number of tasks on each node.
TASKS_VARIABLE = 'SLURM_MEETING_POINT_TASKS'


def slurm_environment(variables, ngpus=None):
    """Return the number of tasks, and the environment variables that describe this task to Horovod.

    Args:
        variables: the environment of a task that srun has started.
        ngpus: the number from `runner -n`, or None.

    Raises:
        UserError: srun has not started this process, or `-n` is not the number of tasks.
    """
    try:
        rank, size, node = (int(variables[f'SLURM_{name}']) for name in ('PROCID', 'STEP_NUM_TASKS', 'NODEID'))
        local_rank = int(variables['SLURM_LOCALID'])
        tasks_per_node = parse_tasks_per_node(variables['SLURM_STEP_TASKS_PER_NODE'])
        first_node = first_host(variables['SLURM_STEP_NODELIST'])
        job = int(variables['SLURM_JOB_ID']) + int(variables.get('SLURM_STEP_ID', 0))
    except KeyError as error:
        raise UserError(
            f'--launcher slurm: {error.args[0]} is not set; start this with srun, one task per worker'
        ) from None
    except ValueError as error:
        raise UserError(f'--launcher slurm: unexpected value in the environment ({error})') from None
    if ngpus not in (None, size):
        raise UserError(f'-n {ngpus} with --launcher slurm: srun has started {size} tasks; leave out -n')
    if size == 1:
        return size, {}
    meeting_point = {
        'HOROVOD_GLOO_RENDEZVOUS_ADDR': first_node,
        'HOROVOD_GLOO_RENDEZVOUS_PORT': FIRST_PORT + job % NUM_PORTS,
        'HOROVOD_CONTROLLER': 'gloo',
        'HOROVOD_CPU_OPERATIONS': 'gloo',
        TASKS_VARIABLE: ','.join(map(str, tasks_per_node)),
    }
    places = {
        # A name that every task can work out for every node.
        'HOROVOD_HOSTNAME': f'node{node}',
        'HOROVOD_RANK': rank,
        'HOROVOD_SIZE': size,
        'HOROVOD_LOCAL_RANK': local_rank,
        'HOROVOD_LOCAL_SIZE': tasks_per_node[node],
        'HOROVOD_CROSS_RANK': sum(tasks > local_rank for tasks in tasks_per_node[:node]),
        'HOROVOD_CROSS_SIZE': sum(tasks > local_rank for tasks in tasks_per_node),
    }
    return size, {name: str(value) for name, value in {**places, **meeting_point}.items()}


def parse_tasks_per_node(text):
    """Return the tasks on each node: [8, 8, 4] for Slurm's '8(x2),4'."""
    counts = []
    for part in text.split(','):
        match = re.fullmatch(r'(\d+)(?:\(x(\d+)\))?', part)
        if not match:
            raise ValueError(f'SLURM_STEP_TASKS_PER_NODE={text}')
        counts += [int(match.group(1))] * int(match.group(2) or 1)
    return counts


def first_host(text):
    """Return the first name in Slurm's 'node[01-04,07],other'."""
    match = re.match(r'([^\[,]+)(?:\[(\w+))?([^,\]\[-]*)', text)
    if not match:
        raise ValueError(f'SLURM_STEP_NODELIST={text}')
    return match.group(1) + (match.group(2) or '')
