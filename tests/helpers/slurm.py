"""A Slurm cluster on this machine, in one folder: a controller, a node with two cores, and their authentication."""

import os
import shutil
import socket
import subprocess
from contextlib import contextmanager, suppress

from helpers.patience import wait_until

PROGRAMS = ('munged', 'slurmctld', 'slurmd', 'srun', 'sbatch')
# Because of cred_expire, a requeued job starts again after 5 seconds instead of two minutes.
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000
PartitionName=main Nodes={host} Default=YES State=UP
"""


def missing_programs():
    return [program for program in PROGRAMS if shutil.which(program, path=_search_path()) is None]


def _search_path():
    """Return PATH with the folders of daemons, which not every user's PATH contains."""
    return os.pathsep.join([os.environ['PATH'], '/usr/sbin', '/sbin'])


@contextmanager
def running_slurm(folder):
    """Run Slurm within the block; yield the environment variables with which its commands find it."""
    key, configuration = folder / 'munge.key', folder / 'slurm.conf'
    key.touch(0o600)
    key.write_bytes(os.urandom(1024))
    for name in ('state', 'spool'):
        (folder / name).mkdir()
    host = socket.gethostname().split('.')[0]
    configuration.write_text(CONFIGURATION.format(host=host, ports=_free_ports(2), folder=folder))
    munge = [f'--{option}={folder}/munge.{option[:-5]}' for option in ('key-file', 'pid-file', 'log-file', 'seed-file')]
    munge += [f'--socket={folder}/munge.socket', '--force', '--foreground']
    variables = {'SLURM_CONF': str(configuration)}
    environment = {**os.environ, **variables, 'PATH': _search_path()}
    settings = {'env': environment, 'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}
    daemons = []
    try:
        daemons.append(subprocess.Popen(['munged', *munge], **settings))
        wait_until((folder / 'munge.socket').exists, daemons[-1])
        for program in ('slurmctld', 'slurmd'):
            daemons.append(subprocess.Popen([program, '-D', '-f', configuration], **settings))
        wait_until(lambda: b'idle' in subprocess.run(['sinfo'], env=environment, capture_output=True).stdout)
        yield variables
    finally:
        with suppress(FileNotFoundError):
            subprocess.run(['scancel', '--user=root'], env=environment, capture_output=True)
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait()


def _free_ports(count):
    """Return ports that no program uses."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(('', 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
