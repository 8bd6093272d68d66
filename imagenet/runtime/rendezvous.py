"""The rendezvous of Horovod's ranks under Slurm."""

import socket
import time

from imagenet.common.errors import UserError
from imagenet.launcher.slurm import TASKS_VARIABLE

CONNECT_SECONDS = 120


def meet(variables):
    """Start Horovod's rendezvous server on rank 0, and wait for it on the other ranks. Do nothing outside Slurm.

    Args:
        variables: this process's environment.

    Raises:
        UserError: the server cannot be started or reached.
    """
    if TASKS_VARIABLE not in variables:
        return
    host, port = variables['HOROVOD_GLOO_RENDEZVOUS_ADDR'], int(variables['HOROVOD_GLOO_RENDEZVOUS_PORT'])
    try:
        if variables['HOROVOD_RANK'] == '0':
            _open_meeting_point(port, [int(tasks) for tasks in variables[TASKS_VARIABLE].split(',')])
        else:
            _wait_for(host, port)
    except OSError as error:
        raise UserError(
            f'cannot start or reach the rendezvous server of the tasks at {host}:{port} ({error}); '
            'choose another address with HOROVOD_GLOO_RENDEZVOUS_ADDR and _PORT'
        ) from None


def _open_meeting_point(port, tasks_per_node):
    from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts
    from horovod.runner.http.http_server import RendezvousHandler, RendezvousHTTPServer
    from horovod.runner.util.threads import in_thread

    hosts = ','.join(f'node{node}:{tasks}' for node, tasks in enumerate(tasks_per_node))
    server = RendezvousHTTPServer(('', port), RendezvousHandler, False)
    server.init(get_host_assignments(parse_hosts(hosts), sum(tasks_per_node)))
    in_thread(target=server.serve_forever)


def _wait_for(host, port):
    give_up = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            socket.create_connection((host, port), CONNECT_SECONDS).close()
            return
        except OSError:
            if time.monotonic() > give_up:
                raise
        time.sleep(0.2)
