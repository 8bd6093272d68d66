"""The launcher over ssh. The hosts are network namespaces of this machine, each with its own sshd."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from helpers.commands import SMALL, assert_user_error, call, succeed
from helpers.patience import wait_until
from helpers.processes import assert_nothing_is_left, read_until, worker
from imagenet.reporting.report_file import read_report

# Each pytest worker has its own hosts, because the workers run in parallel.
NETWORK = f'10.213.{os.getpid() % 256}'


ADDRESSES = (f'{NETWORK}.1', f'{NETWORK}.2')


NAMES = tuple(f'imagenet-{os.getpid()}-{number}' for number in (1, 2))


SSHD_OPTIONS = """
Port 22
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
StrictModes no
PermitRootLogin yes
UsePAM no
PidFile none
"""


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        (('-H', 'misspelt.invalid:2'), ('-H misspelt.invalid', 'cannot be resolved')),
        (('-H', 'a:2', '--hostfile', 'b'), ('-H and --hostfile',)),
        (('-H', 'a:2', '-n', '3'), ('-n 3', '2 slots')),
        (('-H', 'a:2', '--launcher', 'slurm'), ('SLURM_PROCID',)),
        (('-H', 'a:2', '--launcher', 'none'), ('-H with --launcher none',)),
        (('-H', 'a:2', '--kv-store', 'device'), ('--kv-store device',)),
        (('-H', 'a:2', '--mode', 'pred'), ('--mode pred',)),
        (('-n', '2', '--launcher', 'none'), ('--launcher none', '--kv-store device')),
    ],
)
def test_bad_options(options, expected):
    assert_user_error(call('./runner', '--device', 'cpu', '--data-backend', 'synthetic', *options), *expected)


def run(*command):
    subprocess.run([str(part) for part in command], check=True, capture_output=True)


def listens(name, address):
    """Return whether an sshd answers in a namespace."""
    scan = ['ip', 'netns', 'exec', name, 'ssh-keyscan', '-T', '1', address]
    return b'ssh-' in subprocess.run(scan, capture_output=True).stdout


@pytest.fixture(scope='module')
def ssh_key(tmp_path_factory):
    """A private key for two connected hosts, each with an sshd that accepts it."""
    probe = subprocess.run(['unshare', '--net', 'true'], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f'network namespaces are not permitted here: {probe.stderr.strip()}')
    missing = [program for program in ('ip', 'ssh') if shutil.which(program) is None]
    missing += [] if Path('/usr/sbin/sshd').exists() else ['sshd']
    assert not missing, f'{missing} missing: apt-get install iproute2 openssh-server'
    folder = tmp_path_factory.mktemp('ssh')
    for name in ('key', 'host_key'):
        run('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', folder / name)
    (folder / 'config').write_text(SSHD_OPTIONS.format(folder=folder))
    Path('/run/sshd').mkdir(exist_ok=True)
    servers = []
    try:
        for name in NAMES:
            run('ip', 'netns', 'add', name)
        run('ip', 'link', 'add', 'veth0', 'netns', NAMES[0], 'type', 'veth', 'peer', 'veth0', 'netns', NAMES[1])
        (folder / 'elsewhere').mkdir()
        (folder / 'empty').mkdir()
        for name, address in zip(NAMES, ADDRESSES):
            run('ip', '-n', name, 'addr', 'add', f'{address}/24', 'dev', 'veth0')
            for interface in ('lo', 'veth0'):
                run('ip', '-n', name, 'link', 'set', interface, 'up')
            mount = f'mount --bind {folder}/empty {folder}/elsewhere; ' if name == NAMES[1] else ''
            server = f'{mount}exec /usr/sbin/sshd -D -e -f {folder}/config'
            command = ['ip', 'netns', 'exec', name, 'sh', '-c', server]
            servers.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        for name, address in zip(NAMES, ADDRESSES):
            wait_until(lambda name=name, address=address: listens(name, address))
        yield folder / 'key'
    finally:
        for server in servers:
            server.terminate()
        for name in NAMES:
            subprocess.run(['ip', 'netns', 'del', name], capture_output=True)
        for address in ADDRESSES:
            subprocess.run(['ssh-keygen', '-R', address], capture_output=True)


@pytest.fixture
def elsewhere(ssh_key):
    """A path that leads to a different, empty folder on the second host."""
    return ssh_key.parent / 'elsewhere'


def on_first_host(ssh_key, *options, order=1):
    """Return a `runner` command that runs on the first host and starts one worker on each host."""
    hosts = ','.join(f'{address}:1' for address in ADDRESSES[::order])
    command = ['ip', 'netns', 'exec', NAMES[0], './runner', '-H', hosts, '--ssh-identity-file', ssh_key, *options]
    return [str(part) for part in command]


# Unlike two real hosts, the namespaces share the cores, so no thread is bound to a core.
SETTINGS = {'OMP_NUM_THREADS': '1', 'OMP_PROC_BIND': 'false'}


SYNTHETIC = ('--data-backend', 'synthetic', '--num-examples', '64000', '--disp-batches', '5')


def start_on_both(start, ssh_key, workspace, order=1):
    """Start an endless run whose output goes to one pipe. If `order` is -1, rank 0 is on the host reached over ssh."""
    command = on_first_host(ssh_key, *SMALL, order=order)
    process = start(*command, *SYNTHETIC, '--workspace', workspace, env=SETTINGS)
    read_until(process, 'epoch 1 step 5/')
    return process


@pytest.mark.parametrize('order', [1, -1])
def test_signal_reaches_the_first_worker(start, ssh_key, tmp_path, order):
    process = start_on_both(start, ssh_key, tmp_path, order)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate()
    assert process.returncode == 0
    assert 'the same command resumes it' in output.splitlines()[-1]
    assert_nothing_is_left(tmp_path)


def test_killed_launcher_leaves_no_process_on_any_host(start, ssh_key, tmp_path):
    process = start_on_both(start, ssh_key, tmp_path)
    process.kill()
    process.wait()
    assert_nothing_is_left(tmp_path)


def test_killed_worker_of_another_host_ends_the_run(start, ssh_key, tmp_path):
    process = start_on_both(start, ssh_key, tmp_path)
    worker(tmp_path, 1).kill()
    output, _ = process.communicate()
    assert process.returncode == 1
    assert output.splitlines()[-1].startswith(f'error: rank 1 on {ADDRESSES[1]} was killed (SIGKILL)')
    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize('workers', [1, 2])
def test_workers_that_are_all_elsewhere(ssh_key, tmp_path, workers):
    """As if started on the head node of a cluster, which the workers must also be able to reach."""
    command = on_first_host(ssh_key, *SMALL, *SYNTHETIC, '--num-examples', '64', '-e', '1', '--workspace', tmp_path)
    command[command.index('-H') + 1] = f'{ADDRESSES[1]}:{workers}'
    assert '--network-interfaces veth0' in succeed(*command, '--dry-run')
    assert f'train_val on {workers} x 1 cpu' in succeed(*command, env=SETTINGS)


def test_machine_without_loopback(ssh_key, tmp_path):
    """In a new network namespace it exists, but is down."""
    command = ['unshare', '--net', './runner', '-n', '2', '--device', 'cpu', *SMALL, *SYNTHETIC]
    result = call(*command, '--workspace', tmp_path)
    assert_user_error(result, 'the loopback interface cannot be used', 'ip link set lo up')


def test_host_that_vanishes(start, ssh_key, tmp_path):
    """Its connections are not closed: packets to it are lost."""
    process = start_on_both(start, ssh_key, tmp_path)
    run('ip', '-n', NAMES[1], 'link', 'set', 'veth0', 'down')
    try:
        output, _ = process.communicate()
    finally:
        run('ip', '-n', NAMES[1], 'link', 'set', 'veth0', 'up')
    assert process.returncode == 1
    assert output.splitlines()[-1].startswith(
        f'error: lost the connection to rank 1 on {ADDRESSES[1]}: check this host'
    )


def test_host_that_does_not_answer(ssh_key, tmp_path):
    command = on_first_host(ssh_key, *SMALL, *SYNTHETIC, '--workspace', tmp_path)
    command[command.index('-H') + 1] = f'{ADDRESSES[0]}:1,{NETWORK}.9:1'
    assert_user_error(call(*command), f'-H {NETWORK}.9', 'ssh cannot connect', 'try: ssh')


def test_host_without_the_data(ssh_key, small_data, tmp_path, elsewhere):
    """On the second host, this path leads to another folder."""
    shutil.copytree(small_data, elsewhere, dirs_exist_ok=True)
    command = on_first_host(ssh_key, *SMALL, '--data-root', elsewhere, '--workspace', tmp_path / 'run')
    assert_user_error(call(*command), f'{ADDRESSES[1]}: {elsewhere / "train.rec"}', 'cannot read')


def test_two_hosts_train_digits(ssh_key, digits_data, tmp_path):
    output = succeed(
        *on_first_host(ssh_key, *SMALL, '--data-root', digits_data, '--workspace', tmp_path, '--seed', '1'),
        *('-b', '32', '-e', '6', '--warmup-epochs', '1', '--random-mirror', '0', '--min-random-area', '0.7'),
        *('--early-stop-top1', '0.95'),
        env=SETTINGS,
    )
    assert 'train_val on 2 x 1 cpu' in output
    assert max(read_report(tmp_path / 'report.json')['metrics']['val.top1']) >= 0.95
    assert (tmp_path / 'log.rank1.log').exists()
